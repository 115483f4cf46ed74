"""P11: how long importing and starting take, and what a server that does nothing needs."""

from __future__ import annotations

import importlib.util
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from statistics import median

from benchmarks.machine import Cores, free_port, resident, started
from benchmarks.report import Figure, Report, Row, progress
from benchmarks.site import Missing
from benchmarks.workspace import Workspace

__all__ = ["measure"]

_PATIENCE = 20.0
_IMPORTS = ("import aggmw", "from aggmw import FrontProxy", "import aggmw.server.run")
_CONFIGURATION = """\
authentication:
  anonymous:
    paths: [/readyz]
authorization:
  policy: policy.csv
"""


def measure(workspace: Workspace, cores: Cores, report: Report, rounds: int) -> None:
    """Two tables: imports, and `aggmw serve` until `/readyz` answers 200."""
    rows: list[Row] = []
    for statement in _IMPORTS:
        progress(f"  {statement}")
        try:
            times = [_imported(statement) for _ in range(max(rounds, 7))]
        except Missing as missing:
            report.note(statement, missing)
        else:
            rows.append({"statement": statement, "median ms": median(times), "least ms": min(times)})
            if statement == "import aggmw":
                report.reached("import", _figure(times))
    report.table("Importing, over `import asyncio, dataclasses`", rows)
    if importlib.util.find_spec("typer") is None:
        report.note("aggmw serve", "not installed: pip install 'aggmw[cli]'")
        return
    try:
        _serve(workspace, cores, report, rounds)
    except Missing as missing:
        report.note("aggmw serve", missing)


def _figure(found: Sequence[float]) -> Figure:
    return Figure(median(found), min(found), max(found))


def _imported(statement: str) -> float:
    """Milliseconds of one import in a new process."""
    code = f"import asyncio, dataclasses, time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if ran.returncode:
        raise Missing(ran.stderr.strip().splitlines()[-1])
    return float(ran.stdout) * 1e3


def _serve(workspace: Workspace, cores: Cores, report: Report, rounds: int) -> None:
    directory = workspace.path / "serve"
    directory.mkdir(exist_ok=True)
    (directory / "config.yaml").write_text(_CONFIGURATION)
    (directory / "policy.csv").write_text("p2, group:system:unauthenticated, get, /readyz\n")
    first, again, memory = [], [], []
    for number in range(max(2, rounds // 2)):
        progress(f"  aggmw serve: {number + 1}")
        state = directory / f"state-{number}"
        first.append(_until_ready(directory, state, cores, workspace)[0])
        seconds, kept = _until_ready(directory, state, cores, workspace)
        again.append(seconds)
        memory.append(kept)
    rows: list[Row] = [
        {"aggmw serve until /readyz": "first start", "median s": median(first), "best s": min(first)},
        {"aggmw serve until /readyz": "with an existing directory", "median s": median(again), "best s": min(again)},
    ]
    report.reached("ready first", _figure(first))
    report.reached("ready again", _figure(again))
    report.reached("idle MiB", _figure([each / (1 << 20) for each in memory]))
    report.table("Starting", rows, under=f"idle resident memory: {median(memory) / (1 << 20):.1f} MiB")


def _until_ready(directory: Path, state: Path, cores: Cores, workspace: Workspace) -> tuple[float, int]:
    """Seconds from the start of the process to the first 200, and its resident memory then."""
    port = free_port()
    arguments: Sequence[str | Path] = [
        *(sys.executable, "-m", "aggmw", "serve"),
        *("--config", directory / "config.yaml", "--dir", state, "--port", str(port)),
    ]
    log = workspace.log("serve")
    began = time.perf_counter()
    with started(arguments, cores.proxy, errors=log) as process:
        while not _ready(port):
            if process.poll() is not None or time.perf_counter() - began > _PATIENCE:
                said = log.read_text().strip().splitlines()
                raise Missing(f"does not start: {said[-1] if said else 'it said nothing'}")
            time.sleep(0.005)
        return time.perf_counter() - began, resident(process.pid)


def _ready(port: int) -> bool:
    connection = HTTPSConnection("127.0.0.1", port, timeout=2, context=ssl._create_unverified_context())
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
