"""`make bench`, or `python -m benchmarks`: measures aggmw beside its peers and prints the ratios."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import floors, growth, large, latency, micro, parts, start, throughput, watches
from benchmarks.machine import Cores
from benchmarks.report import Report, progress
from benchmarks.site import Site, opened
from benchmarks.throughput import Samples

__all__ = ["CASES", "arguments", "main"]

CASES = {
    "P1": "throughput of bare forwarding: ProxyMiddleware alone, on our door under uvicorn",
    "P2": "the same on granian, plain HTTP",
    "P3": "throughput of the whole FrontProxy",
    "P3K": "the same beside the aggregation layer of a real kube-apiserver, TLS on both sides",
    "P4": "latency added at 100 requests/s",
    "micro": "single parts in one process, µs per call (P7, P8, and where the microseconds of P3 go)",
    "P5": "one large response and one large upload",
    "P6": "1,000 idle watches, and as many WebSockets",
    "P7": "policies: deciding by 10 to 100,000 rules or bindings, beside pycasbin; loading, and a reload",
    "P8": "tokens: one that is remembered among 100,000, and new ones",
    "P11": "starting",
    "P12": "what a request costs as services and kinds grow",
}
USUAL = ("P1", "P2", "P3", "P4", "micro")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for. Ends the process with a word on what is wrong.

    Args:
        given: instead of the process's own arguments.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures aggmw beside nginx, Go, asgiproxy and fastapi-proxy-lib."
        " Every proxy runs on one core, clients and backend on another.",
        epilog="cases:\n"
        + "\n".join(f"  {name:6} {text}" for name, text in CASES.items())
        + f"\n\nWithout a case: {', '.join(USUAL)}, in about five minutes; `all` takes some minutes more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = ", ".join(USUAL)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"which to run, or all (default: {usual})")
    parser.add_argument("--rounds", type=int, default=7, help="per server (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="per round (default: %(default)s)")
    parser.add_argument("--mebibytes", type=int, default=256, help="of P5's bodies (default: %(default)s)")
    parser.add_argument("--watches", type=int, default=1000, help="of P6 (default: %(default)s)")
    parser.add_argument(
        "--profile", type=Path, metavar="DIR", help="write what cProfile sees in each aggmw server to DIR (slows them)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE too, round by round")
    options = parser.parse_args(given)
    names = {name.lower(): name for name in CASES}
    asked = [name.lower() for name in options.cases]
    unknown = [name for name in asked if name not in names and name != "all"]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; the cases are {', '.join(CASES)}, and all")
    if min(options.rounds, options.seconds, options.mebibytes, options.watches) < 1:
        parser.error("--rounds, --seconds, --mebibytes and --watches must be at least 1")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no directory {options.json.absolute().parent}")
    chosen = CASES if "all" in asked else [names[name] for name in asked] or USUAL
    options.cases = [name for name in CASES if name in chosen]
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
    with opened(options.mebibytes << 20, options.profile) as site:
        _say_cores(site.cores)
        for name, run in _Run(site, report, options).steps().items():
            progress(name)
            try:
                run()
            except Exception as error:  # noqa: BLE001  one that cannot be measured must not hide the others
                report.note(name, f"{type(error).__name__}: {error}")
    report.table("What should be reached, and what was", floors.summary(report.figures))
    report.finish(options.json)
    return 0


class _Run:
    """The steps of one run."""

    def __init__(self, site: Site, report: Report, options: argparse.Namespace) -> None:
        self._site = site
        self._report = report
        self._options = options
        self._samples: Samples = {}
        self._single: Mapping[str, float] = {}

    def steps(self) -> dict[str, Callable[[], None]]:
        """What is to be done, by name, in order. A step that fails leaves the others alone."""
        options, site, report = self._options, self._site, self._report
        rounds = options.rounds
        throughputs = [name for name in options.cases if name in throughput.CASES]
        steps: dict[str, Callable[[], None]] = {}
        if throughputs:
            steps[f"throughput ({', '.join(throughputs)})"] = lambda: self._throughput(throughputs)
        for case, name, run in (
            ("P4", "latency", lambda: latency.measure(site, report, rounds)),
            ("micro", "single parts", self._micro),
            ("P5", "large bodies", lambda: large.measure(site, report, options.mebibytes << 20, rounds)),
            ("P6", "watches", lambda: watches.measure(site, report, options.watches)),
            ("P7", "policies", self._policies),
            ("P8", "tokens", self._tokens),
            ("P12", "growth", lambda: growth.measure(report)),
            ("P11", "starting", lambda: start.measure(site.workspace, site.cores, report, rounds)),
        ):
            if case in options.cases:
                steps[f"{name} ({case})"] = run
        if throughputs:
            steps["where the microseconds go"] = lambda: parts.split(self._samples, self._single, report)
        return steps

    def _throughput(self, cases: Sequence[str]) -> None:
        options = self._options
        self._samples = throughput.measure(self._site, self._report, cases, options.rounds, options.seconds)

    def _policies(self) -> None:
        if "micro" not in self._options.cases:  # where they are measured, too
            micro.policies(self._report)

    def _tokens(self) -> None:
        if "micro" not in self._options.cases:  # where they are measured, too
            micro.tokens(self._report)

    def _micro(self) -> None:
        self._single = micro.measure(self._report)


def _say_cores(cores: Cores) -> None:
    if cores.proxy is None:
        progress("One core only: nothing is pinned, and the figures mean little.")
    else:
        progress(f"Proxies run on core {cores.proxy}, clients and backends on core {cores.rest}.")
    progress(f"Load average {os.getloadavg()[0]:.2f}; anything but about 0 is noise.")


if __name__ == "__main__":
    sys.exit(main())
