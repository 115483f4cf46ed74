"""P5: one large response and one large upload, and how much memory a proxy needs meanwhile."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import median
from typing import NamedTuple

from benchmarks.client import Client, head
from benchmarks.machine import peak_memory, usage
from benchmarks.report import Figure, Report, Row, progress, ratio
from benchmarks.site import Missing, Server, Site
from benchmarks.workspace import LARGE, UPLOAD

__all__ = ["measure"]

_SERVERS = {
    "direct": "nothing (client → backend)",
    "nginx": "nginx proxy_pass",
    "go": "Go ReverseProxy",
    "bare": "aggmw ProxyMiddleware",
    "stack-10": "aggmw FrontProxy",
}


class _Transfer(NamedTuple):
    seconds: float
    cpu: float
    growth: int


def measure(site: Site, report: Report, size: int, rounds: int) -> None:
    """A table a direction and side: MiB/s with its spread, CPU seconds per GiB, growth of resident memory at its worst.

    A single transfer is disturbed easily, down to half its rate: hence the slowest and the fastest beside the median.
    """
    for tls in (False, True):
        servers: list[Server] = []
        for name, title in _SERVERS.items():
            try:
                servers.append(site.server(name, tls=tls, fresh=True))
            except Missing as missing:
                report.note(title, missing)
        for upload in (False, True):
            transfers: dict[str, list[_Transfer]] = defaultdict(list)
            for number in range(rounds):
                progress(
                    f"  {'upload' if upload else 'response'}, {'TLS' if tls else 'plain'}: {number + 1} of {rounds}"
                )
                for server in servers:
                    try:
                        transfers[server.name].append(_transfer(server, size, upload=upload))
                    except OSError as error:
                        report.note(f"{_SERVERS[server.name]}, {'upload' if upload else 'response'}", error)
            kind = "TLS on both sides" if tls else "plain HTTP"
            title = f"One {'upload' if upload else 'response'} of {size >> 20} MiB, {kind}: the median of {rounds}"
            report.table(title, _rows(transfers, size))
            _say_reached(report, transfers, f"{'TLS' if tls else 'plain'} {'upload' if upload else 'response'}")


def _transfer(server: Server, size: int, *, upload: bool) -> _Transfer:
    client = Client(server, server.streams if upload else None)
    try:
        cpu = usage(server.pid).total
        with peak_memory(server.pid) as growth:
            began = time.perf_counter()
            if upload:
                client.upload(UPLOAD, size)
            elif client.exchange(head("GET", LARGE)) != size:
                raise OSError("the answer has another size")
            seconds = time.perf_counter() - began
            return _Transfer(seconds, usage(server.pid).total - cpu, growth())
    finally:
        client.close()


def _say_reached(report: Report, transfers: dict[str, list[_Transfer]], what: str) -> None:
    """For the floors: rates beside nginx's, and the most memory of all directions and sides."""
    nginx = transfers.get("nginx")
    for name, found in transfers.items():
        grown = max(each.growth for each in found) / (1 << 20)
        before = report.figures.get(f"{name} MiB grown")
        report.reached(f"{name} MiB grown", Figure(grown if before is None else max(grown, before.value)))
        if nginx:
            ratios = [other.seconds / mine.seconds for mine, other in zip(found, nginx, strict=False)]
            whole = median(each.seconds for each in nginx) / median(each.seconds for each in found)
            report.reached(f"{name} {what} × nginx", Figure(whole, min(ratios), max(ratios)))


def _rows(transfers: dict[str, list[_Transfer]], size: int) -> list[Row]:
    nginx = transfers.get("nginx")
    rows: list[Row] = []
    for name, found in transfers.items():
        rate = (size >> 20) / median(each.seconds for each in found)
        direct = name == "direct"
        row: dict[str, str | float | None] = {"what forwards": _SERVERS[name], "MiB/s": rate}
        row["slowest"] = (size >> 20) / max(each.seconds for each in found)
        row["fastest"] = (size >> 20) / min(each.seconds for each in found)
        if not direct:
            theirs = (size >> 20) / median(each.seconds for each in nginx) if nginx else None
            row["× nginx"] = ratio(rate, theirs)
            row["CPU s/GiB"] = median(each.cpu for each in found) * (1 << 30) / size
            row["MiB grown"] = max(each.growth for each in found) / (1 << 20)
        rows.append(row)
    return rows
