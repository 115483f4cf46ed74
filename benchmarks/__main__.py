"""`make bench`, or `python -m benchmarks`: measures aggmw beside its peers and prints the ratios."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import large, latency, micro, start, throughput, watches
from benchmarks.machine import Cores
from benchmarks.report import Report, progress
from benchmarks.site import Site, opened

CASES = {
    "P1": "throughput of bare forwarding (ProxyMiddleware alone)",
    "P3": "throughput of the whole FrontProxy",
    "P4": "latency added at 100 requests/s",
    "P5": "one large response and one large upload",
    "P6": "1,000 idle watches",
    "P11": "starting",
    "micro": "single stages in one process: µs per call (P7, P8 and what P3 is made of)",
}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures aggmw beside nginx and Go. Every proxy runs on one core, clients and backend on another.",
        epilog="cases:\n" + "\n".join(f"  {name:6} {text}" for name, text in CASES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="which to run, in any order (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="per server (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="per round (default: %(default)s)")
    parser.add_argument("--mebibytes", type=int, default=256, help="of P5's bodies (default: %(default)s)")
    parser.add_argument("--watches", type=int, default=1000, help="of P6 (default: %(default)s)")
    parser.add_argument(
        "--profile", type=Path, metavar="DIR", help="write what cProfile sees in each aggmw server to DIR (slows them)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE too")
    options = parser.parse_args()
    names = {name.lower(): name for name in CASES}
    unknown = [name for name in options.cases if name.lower() not in names]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; the cases are {', '.join(CASES)}")
    if min(options.rounds, options.seconds, options.mebibytes, options.watches) < 1:
        parser.error("--rounds, --seconds, --mebibytes and --watches must be at least 1")
    options.cases = [names[name.lower()] for name in options.cases] or list(CASES)
    return options


def main() -> int:
    """Run the cases one after the other. A figure never fails; what cannot be measured is noted."""
    options = arguments()
    if not sys.platform.startswith("linux"):
        print("The benchmarks read /proc and pin processes to cores: they run on Linux only.", file=sys.stderr)
        return 1
    if options.profile is not None:
        options.profile = options.profile.absolute()
        options.profile.mkdir(parents=True, exist_ok=True)
    report = Report()
    chosen = set(options.cases)
    with opened(options.mebibytes << 20, options.profile) as site:
        _say_cores(site.cores)
        for name, run in _runs(site, report, options, chosen).items():
            progress(name)
            try:
                run()
            except Exception as error:  # noqa: BLE001  one that cannot be measured must not hide the others
                report.note(name, f"{type(error).__name__}: {error}")
    report.finish(options.json)
    return 0


def _runs(site: Site, report: Report, options: argparse.Namespace, chosen: set[str]) -> dict[str, Callable[[], None]]:
    runs: dict[str, Callable[[], None]] = {}
    wanted = {"P1": throughput.FORWARDING, "P3": throughput.STACK}
    contenders = tuple(dict.fromkeys(each for name in wanted if name in chosen for each in wanted[name]))
    if contenders:
        runs["throughput (P1, P3)"] = lambda: throughput.measure(
            site, report, contenders, options.rounds, options.seconds
        )
    if "P4" in chosen:
        runs["latency (P4)"] = lambda: latency.measure(site, report, options.rounds)
    if "P5" in chosen:
        runs["large bodies (P5)"] = lambda: large.measure(site, report, options.mebibytes << 20, options.rounds)
    if "P6" in chosen:
        runs["watches (P6)"] = lambda: watches.measure(site, report, options.watches)
    if "P11" in chosen:
        runs["start (P11)"] = lambda: start.measure(site.workspace, site.cores, report, options.rounds)
    if "micro" in chosen:
        runs["single stages"] = lambda: micro.measure(report)
    return runs


def _say_cores(cores: Cores) -> None:
    if cores.proxy is None:
        progress("One core only: nothing is pinned, and the figures mean little.")
    else:
        progress(f"Proxies run on core {cores.proxy}, clients and backends on core {cores.rest}.")
    progress(f"Load average {os.getloadavg()[0]:.2f}; anything but about 0 is noise.")


if __name__ == "__main__":
    sys.exit(main())
