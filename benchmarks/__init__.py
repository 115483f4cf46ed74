"""How fast aggmw is, beside what else forwards requests. `python -m benchmarks --help`; read docs/reference/performance.md."""
