"""From rounds to tables, ratios and the summary, with figures made up for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import floors, latency, parts, throughput
from benchmarks.floors import Floor
from benchmarks.load import Round
from benchmarks.micro import DOOR, FUSED, PROXY, RECOVERY
from benchmarks.report import Figure, Report
from benchmarks.throughput import Contender, Sample, Samples

GO = Contender("Go ReverseProxy", "go")
ANSWER = Contender("the door", "answer")
BARE = Contender("ProxyMiddleware", "bare")
STACK = Contender("FrontProxy", "stack-1000")
SPREAD = Contender("FrontProxy, many objects", "stack-1000", spread=True)


def sample(rate: float, user: float = 40.0, system: float = 10.0, errors: int = 0) -> Sample:
    return Sample(Round(rate, 3.0, 6.0, int(rate), errors), user, system)


def rates(*found: float) -> list[Sample]:
    return [sample(rate) for rate in found]


def test_throughput_ratio_and_spread() -> None:
    """A ratio is that of the medians; its spread is the least and the most that one round gave."""
    report = Report()
    samples: Samples = {(GO, False): rates(100, 200, 300), (BARE, False): rates(150, 240, 240)}
    throughput.tabulate(samples, report, "how")
    assert report.figures["bare plain × go"] == Figure(1.2, 0.8, 1.5)
    ((title, rows),) = report.tables.items()
    assert title == "Throughput, plain HTTP: how"
    assert rows[1]["what forwards"] == "ProxyMiddleware"
    assert (rows[1]["requests/s"], rows[1]["least"], rows[1]["best"]) == (240, 150, 240)
    assert (rows[1]["× Go"], rows[1]["from"], rows[1]["to"]) == (1.2, 0.8, 1.5)


def test_ratio_of_cpu_time() -> None:
    """Less CPU time per request than the peer is more than 1."""
    report = Report()
    samples: Samples = {(GO, True): [sample(1, 45, 15)], (BARE, True): [sample(1, 30, 20)]}
    throughput.tabulate(samples, report, "how")
    assert report.figures["bare TLS × go, CPU"].value == pytest.approx(1.2)


def test_errors_are_noted() -> None:
    """Requests that failed are said, whatever their number says of speed."""
    report = Report()
    throughput.tabulate({(BARE, True): [sample(1, errors=2), sample(1, errors=1)]}, report, "how")
    assert report.notes == ["ProxyMiddleware, https: 3 errors"]


def test_without_go_there_is_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    """A peer that is not there leaves the other figures."""
    report = Report()
    throughput.tabulate({(BARE, False): rates(10)}, report, "how")
    assert report.figures.keys() == set()
    assert "× Go" not in capsys.readouterr().out


def test_added_latency() -> None:
    """What counts is what comes on top of going direct, as a multiple of what Go adds."""
    report = Report()
    times = {name: [[each] * 100, [each] * 100] for name, each in (("direct", 1.0), ("go", 1.5), ("bare", 1.6))}
    latency.tabulate(times, report, tls=False)
    figure = report.figures["bare plain p50 added × go"]
    assert (figure.value, figure.least, figure.most) == pytest.approx((1.2, 1.2, 1.2))


def test_no_latency_ratio_to_nothing() -> None:
    """Where Go seems to add nothing, there is no multiple of it."""
    report = Report()
    latency.tabulate({"direct": [[2.0] * 100], "go": [[1.0] * 100], "bare": [[3.0] * 100]}, report, tls=True)
    assert report.figures == {}


def test_parts_add_up() -> None:
    """Each part is what a server costs more than the one that does less; together they are the whole."""
    report = Report()
    samples: Samples = {
        (ANSWER, False): [sample(1, 10, 5)],
        (BARE, False): [sample(1, 30, 15)],
        (STACK, False): [sample(1, 60, 20)],
        (SPREAD, False): [sample(1, 600, 200)],
    }
    parts.split(samples, {DOOR: 11.0, PROXY: 9.0, RECOVERY: 6.0, FUSED: 14.0}, report)
    ((_, rows),) = report.tables.items()
    assert [(row.get("plain µs"), row.get("alone µs")) for row in rows] == [
        (15, 11.0),
        (30, 9.0),
        (35, 20.0),
        (None, 6.0),
        (80, None),
        (20, None),
    ]


def test_no_parts_of_servers_that_were_not_measured() -> None:
    """The table needs all three servers."""
    report = Report()
    parts.split({(ANSWER, False): [sample(1)], (STACK, False): [sample(1)]}, {}, report)
    assert report.tables == {}


FLOORS = (
    Floor("P1", "speed", "fast", 1.2, 1.5),
    Floor("P6", "memory", "small", 40, at_least=False),
    Floor("P9", "not measured", "nothing", 1.0),
)


@pytest.mark.parametrize(("speed", "so"), [(0.95, "not yet"), (1.2, "reached")])
def test_floor_and_what_was_reached(speed: float, so: str) -> None:
    """The summary sets each floor beside the figure and its spread; what was not measured is left out."""
    found = {"fast": Figure(speed, 0.9, 1.3), "fast, CPU": Figure(1.1), "small": Figure(50)}
    fast, small = floors.summary(found, FLOORS)
    assert fast == {
        "what": "P1 speed",
        "floor": "≥ 1.2",
        "aim": "≥ 1.5",
        "reached": speed,
        "from": 0.9,
        "to": 1.3,
        "by CPU time": 1.1,
        "so": so,
    }
    assert (small["floor"], small["so"]) == ("≤ 40", "not yet")


def test_floors_are_of_figures_that_exist() -> None:
    """Every floor of P1, P2, P3 and P4 is of something that these cases measure."""
    report = Report()
    samples = {
        (contender, tls): rates(10)
        for contenders in throughput.CASES.values()
        for contender in contenders
        for tls in (False, True)
        if contender.tls or not tls
    }
    throughput.tabulate(samples, report, "how")
    for tls in (False, True):
        times = {
            name: [[each] * 9]
            for each, name in enumerate(("direct", "go", "bare", "compiled-bare", "stack-1000", "compiled-stack-1000"))
        }
        latency.tabulate(times, report, tls=tls)
    wanted = {floor.figure for floor in floors.FLOORS if floor.case in ("P1", "P2", "P3", "P4")}
    assert wanted <= report.figures.keys()


def test_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file holds the machine, the tables, the figures with their spread, and every round."""
    report = Report()
    throughput.tabulate({(GO, False): rates(100, 200), (BARE, False): rates(50, 100)}, report, "how")
    report.note("wrk", "not installed")
    report.finish(tmp_path / "figures.json")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["machine"].keys() == {"python", "build", "system", "cores", "load_average"}
    assert written["figures"]["bare plain × go"] == {"value": 0.5, "least": 0.5, "most": 0.5}
    assert [row["requests/s"] for row in written["tables"]["Throughput, plain HTTP: how"]] == [150, 75]
    rounds = written["rounds"]["Throughput, plain HTTP: how"]["ProxyMiddleware"]
    assert [each["requests/s"] for each in rounds] == [50, 100]
    assert written["notes"] == ["wrk: not installed"]
    assert "wrk: not installed" in capsys.readouterr().out


def test_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Words to the left, figures to the right, a dash for what is not there."""
    Report().table("Title", [{"a": "word", "b": 1234.5}, {"a": "w", "c": "x"}], under="note")
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Title",
        "  a         b  c",
        "  word  1,234  –",
        "  w         –  x",
        "  note",
    ]
