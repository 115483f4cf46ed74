"""`/healthz`, `/livez`, `/readyz`: one line a check, the reason of a failure in the log only (wire contract §3.6)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from urllib.parse import parse_qsl

import structlog

from aggmw.asgi.types import Headers
from aggmw.contracts.catalog import Check
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Answer

__all__ = ["Health", "Ping", "Shutdown"]

_log = structlog.get_logger("aggmw.discovery")
_HEADERS: Headers = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-cache, private"),
    (b"x-content-type-options", b"nosniff"),
)
_OK = Answer(200, _HEADERS, b"ok")


class Ping:
    """Always well: the process answers."""

    name = "ping"

    def check(self) -> str | None:
        return None


class Shutdown:
    """Fails once draining has begun, so that no new work is sent here."""

    name = "shutdown"

    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    def check(self) -> str | None:
        return "the process is shutting down" if self._drain.begun else None


class Health:
    """One of the three endpoints.

    Args:
        endpoint: "readyz", for the last line.
        checks: in the order of their lines.
    """

    def __init__(self, endpoint: str, checks: Sequence[Check]) -> None:
        self.endpoint = endpoint
        self._checks = tuple(checks)
        self._by_name = {check.name: check for check in checks}
        self._failing: set[str] = set()

    @property
    def names(self) -> Collection[str]:
        """The names of the checks."""
        return self._by_name.keys()

    @property
    def passing(self) -> bool:
        """Whether every check is well."""
        return all(_outcome(check) is None for check in self._checks)

    def answer(self, query: bytes) -> Answer:
        """200 "ok"; 500 with a line for each check when one fails. `verbose` gives the lines in any case.

        Args:
            query: `verbose`, and `exclude=NAME` any number of times.
        """
        verbose, excluded = _options(query)
        lines: list[str] = []
        reasons: dict[str, str] = {}
        for check in self._checks:
            if check.name in excluded:
                lines.append(f"[+]{check.name} excluded: ok")
            elif (reason := _outcome(check)) is None:
                lines.append(f"[+]{check.name} ok{_remark(check)}")
            else:
                reasons[check.name] = reason
                lines.append(f"[-]{check.name} failed: reason withheld")
        if unknown := sorted(excluded - self._by_name.keys()):
            names = ",".join(f'"{_plain(name)}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        self._note(self._by_name.keys() - excluded, reasons)
        if reasons:
            return _text(500, [*lines, f"{self.endpoint} check failed"])
        return _text(200, [*lines, f"{self.endpoint} check passed"]) if verbose else _OK

    def single(self, name: str) -> Answer | None:
        """One check by its name; None when there is no such check."""
        check = self._by_name.get(name)
        if check is None:
            return None
        reason = _outcome(check)
        self._note((name,), {} if reason is None else {name: reason})
        return _OK if reason is None else _text(500, ["internal server error: reason withheld"])

    def _note(self, examined: Iterable[str], reasons: dict[str, str]) -> None:
        """A probe comes every few seconds: only a check that begins to fail is worth a line.

        Args:
            examined: the checks that were asked; what the others last said stays known, whatever a request leaves out.
            reasons: why those of them fail that do.
        """
        begun = {name: reason for name, reason in reasons.items() if name not in self._failing}
        if begun:
            _log.warning("health check failed", endpoint=self.endpoint, reasons=begun)
        if reasons or self._failing:
            self._failing.difference_update(examined)
            self._failing.update(reasons)


def _outcome(check: Check) -> str | None:
    try:
        return check.check()
    except Exception as error:  # noqa: BLE001  a check that breaks is a check that fails
        return f"the check itself failed: {type(error).__name__}"


def _remark(check: Check) -> str:
    """What a check that is well has to say besides."""
    note = getattr(check, "note", None)
    return f": {_plain(note())}" if callable(note) else ""


def _options(query: bytes) -> tuple[bool, set[str]]:
    if not query:
        return False, set()
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return any(key == "verbose" for key, _ in pairs), {value for key, value in pairs if key == "exclude"}


def _plain(name: str) -> str:
    """A text, cut, and without what could end a line."""
    return "".join(c if c.isprintable() else "?" for c in name[:100])


def _text(status: int, lines: Sequence[str]) -> Answer:
    return Answer(status, _HEADERS, "\n".join([*lines, ""]).encode(errors="replace"))
