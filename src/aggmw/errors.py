"""What can go wrong, and what each means over HTTP.

::

    AggmwError
    ├── ConfigurationError      every mistake of the operator's files at once (start-up; exit 2)
    ├── CompositionError        stages were put together wrongly (when they are made, else 500)
    │   ├── MissingInput          a stage was mounted without the stage before it (names both)
    │   ├── MisplacedStage        a stage stands twice, or around one whose findings it needs
    │   └── NotOpened             background work does not run, because no lifespan came by
    ├── InvalidIdentity         a name, group or extra value that may not travel in a header (401)
    ├── InvalidCredentials      credentials that are an authenticator's own, and bad (401)
    ├── StatusError             an error that a client sees: code, reason, message, details
    └── UpstreamError           a backend failed
        ├── UpstreamUnreachable   nothing was sent: refused, unresolvable, TLS (503)
        │   └── UpstreamBusy        nor will it be now: all its connections are in use (503 with Retry-After)
        ├── UpstreamBroken        the backend answered nonsense or broke off (502)
        └── UpstreamTimeout       sent, and no answer in time (504)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from traceback import walk_tb
from typing import Any

__all__ = [
    "AggmwError",
    "CompositionError",
    "ConfigurationError",
    "InvalidCredentials",
    "InvalidIdentity",
    "MisplacedStage",
    "MissingInput",
    "NotOpened",
    "Problem",
    "StatusError",
    "UpstreamBroken",
    "UpstreamBusy",
    "UpstreamError",
    "UpstreamTimeout",
    "UpstreamUnreachable",
    "fault",
]


class AggmwError(Exception):
    """The root of everything that aggmw raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the operator's input.

    Args:
        path: where: a file, `file:line`, or `file: spec.service.port`.
        message: what is wrong and what to do, in one line.
        passing: whether it may be gone a moment later although nobody does anything, as with a disk that fails once.
    """

    path: str
    message: str
    passing: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"

    @classmethod
    def unreadable(cls, path: object, error: OSError) -> Problem:
        """That a file cannot be read: passing, unless there is none, which nobody but the operator changes."""
        lasting = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        return cls(str(path), f"cannot be read: {error.strerror or error}", passing=not lasting)


class ConfigurationError(AggmwError):
    """All the mistakes of a configuration, found in one pass.

    `str()` gives one line a mistake, path first.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class CompositionError(AggmwError):
    """Stages were put together wrongly. The text names them and says what to do; it is safe to show."""


class MissingInput(CompositionError):
    """A stage needs what another stage leaves, and that stage is not in front of it."""

    def __init__(self, stage: str, needs: str, left_by: str) -> None:
        super().__init__(f"{stage} needs {needs}, which {left_by} leaves: put {left_by} in front of {stage}")


class MisplacedStage(CompositionError):
    """A stage stands twice, or in a place where it cannot do its work."""


class NotOpened(CompositionError):
    """A stage has background work, and neither a lifespan nor anybody else has started it."""

    def __init__(self, stage: str, by_hand: str) -> None:
        super().__init__(
            f"{stage} was not opened, so its background work does not run: let the server run the lifespan of the"
            f" application outside, or open it yourself: {by_hand}"
        )


class InvalidIdentity(AggmwError, ValueError):
    """A user, uid, group or extra value that a header cannot carry unchanged."""


class InvalidCredentials(AggmwError):
    """The credentials were meant for this authenticator and are bad. The text is for logs, never for the client."""


class StatusError(AggmwError):
    """An error that the client sees as a Kubernetes `Status`.

    Args:
        code: the HTTP status.
        reason: `metav1.StatusReason`, such as "NotFound".
        message: one line, safe to show.
        details: `metav1.StatusDetails` as a mapping, or None.
        headers: further response headers.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers: tuple[tuple[bytes, bytes], ...] = tuple(headers)


class UpstreamError(AggmwError):
    """A backend failed. The message is safe to show: it names no address, no credential and no header value."""


class UpstreamUnreachable(UpstreamError):
    """Nothing of the request was sent."""


class UpstreamBusy(UpstreamUnreachable):
    """Nothing was sent because too many others are at it: the same request may have more luck in a moment."""


class UpstreamBroken(UpstreamError):
    """The backend's answer broke the protocol or the connection."""


class UpstreamTimeout(UpstreamError):
    """The request was sent and no answer came in time."""


def fault(error: BaseException) -> dict[str, str]:
    """What a log line may say of an exception that nobody expected: its type and where it was raised.

    Neither its text nor a traceback: some loggers print the variables of every frame, and both may hold credentials.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # the group's own place is where tasks are awaited, which says nothing
    frames = list(walk_tb(error.__traceback__))
    if not frames:
        return {"error": type(error).__name__}
    frame, line = frames[-1]
    return {"error": type(error).__name__, "where": f"{PurePath(frame.f_code.co_filename).name}:{line}"}
