"""How fast aggmw is, beside what else forwards requests. How to read it: docs/reference/performance.md."""
