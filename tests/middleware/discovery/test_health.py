"""Health: lines as Kubernetes writes them, reasons in the log only."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from aggmw.contracts.drain import Drain
from aggmw.middleware.discovery.health import Health, Ping, Shutdown


class Database:
    """A check that can be broken."""

    name = "etcd"
    reason: str | None = None
    error: Exception | None = None

    def check(self) -> str | None:
        if self.error:
            raise self.error
        return self.reason


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def health(database: Database) -> Health:
    return Health("readyz", [Ping(), database])


def test_ok(health: Health) -> None:
    """All well is "ok", as text, and nobody caches it."""
    status, headers, body = health.answer(b"")
    assert (status, body) == (200, b"ok")
    assert dict(headers) == {
        b"content-type": b"text/plain; charset=utf-8",
        b"cache-control": b"no-cache, private",
        b"x-content-type-options": b"nosniff",
    }


@pytest.mark.parametrize("query", [b"verbose", b"verbose=1", b"timeout=3s&verbose="])
def test_verbose(health: Health, query: bytes) -> None:
    """A line for each check on demand."""
    assert health.answer(query).body == b"[+]ping ok\n[+]etcd ok\nreadyz check passed\n"


class Noted(Database):
    """Has something to say while it is well."""

    def note(self) -> str:
        return "revision 7\n" + "x" * 200


def test_note() -> None:
    """What is well may say more, in one short line; what fails says nothing."""
    noted = Noted()
    health = Health("readyz", [Ping(), noted])
    lines = health.answer(b"verbose").body.decode().splitlines()
    assert lines == ["[+]ping ok", "[+]etcd ok: revision 7?" + "x" * 89, "readyz check passed"]
    assert health.answer(b"").body == b"ok"
    noted.reason = "broken"
    assert b"revision" not in health.answer(b"verbose").body


def test_failure_is_verbose_and_withholds_the_reason(health: Health, database: Database) -> None:
    """Anybody may read health: why a check fails is in the log only, once per change."""
    database.reason = "password wrong for 10.0.0.1"
    with capture_logs() as logs:
        answers = [health.answer(b""), health.answer(b"")]
    assert answers[0] == answers[1]
    assert answers[0].status == 500
    assert answers[0].body == b"[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"
    assert [log["reasons"] for log in logs] == [{"etcd": "password wrong for 10.0.0.1"}]


def test_broken_check_fails(health: Health, database: Database) -> None:
    """A check that raises is a check that fails, not an error of the request."""
    database.error = RuntimeError("bug")
    assert health.answer(b"").status == 500


def test_exclude(health: Health, database: Database) -> None:
    """`exclude` may be repeated; names that are no checks are warned of, on one line."""
    database.reason = "down"
    answer = health.answer(b"verbose&exclude=etcd&exclude=no%0Asuch")
    assert answer.status == 200
    assert answer.body.decode().splitlines() == [
        "[+]ping ok",
        "[+]etcd excluded: ok",
        'warn: some health checks cannot be excluded: no matches for "no?such"',
        "readyz check passed",
    ]
    assert health.answer(b"exclude=etcd").body == b"ok"


def test_single(health: Health, database: Database) -> None:
    """One check by its name."""
    answer = health.single("etcd")
    assert answer is not None
    assert answer.body == b"ok"
    database.reason = "down"
    answer = health.single("etcd")
    assert answer is not None
    assert (answer.status, answer.body) == (500, b"internal server error: reason withheld\n")
    assert health.single("nosuch") is None


def test_shutdown() -> None:
    """Once draining has begun, no new work is asked for."""
    drain = Drain()
    health = Health("readyz", [Shutdown(drain)])
    assert health.answer(b"").status == 200
    drain.begin()
    assert health.answer(b"").body == b"[-]shutdown failed: reason withheld\nreadyz check failed\n"


def test_exclusion_is_not_a_change(health: Health, database: Database) -> None:
    """Anybody may ask with `exclude`: to leave a failing check out is not its recovery, and fills no log."""
    database.reason = "down"
    with capture_logs() as logs:
        for _ in range(3):
            health.answer(b"")
            health.answer(b"exclude=etcd")
            health.single("ping")
            health.single("etcd")
    assert [log["reasons"] for log in logs] == [{"etcd": "down"}]


@pytest.mark.parametrize("single", [True, False])
def test_failure_after_recovery_is_logged(health: Health, database: Database, single: bool) -> None:
    """A check that was seen well and fails again is news."""
    with capture_logs() as logs:
        for reason in ("down", None, "down again"):
            database.reason = reason
            if single:
                health.single("etcd")
            else:
                health.answer(b"")
    assert [log["reasons"] for log in logs] == [{"etcd": "down"}, {"etcd": "down again"}]
