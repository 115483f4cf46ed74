"""Logs to standard error: readable lines on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Any

import structlog

__all__ = ["configure"]


def configure(level: str = "info", style: str = "auto", *, worker: int | None = None) -> None:
    """Set up structlog and what the server library logs through the standard library.

    Args:
        level: "debug", "info", "warning" or "error".
        style: "console", "json", or "auto": console when standard error is a terminal.
        worker: the number of this process among several, for every line.
    """
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    debug = level == "debug"
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        _without_traceback if not debug else structlog.processors.format_exc_info,
        *([] if worker is None else [_Signed(worker)]),
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(getattr(logging, level.upper()))
    # The server library's own start and stop lines repeat ours.
    logging.getLogger("uvicorn").setLevel(logging.DEBUG if debug else logging.WARNING)


class _Lines(structlog.WriteLogger):
    """Writes a line at once, because others may write there, too. One that cannot be written, because the disk is full
    or nobody reads, is lost: it must not take along whoever had something to say."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warning = error = critical = msg


class _Signed:
    """Adds which process a line is from."""

    def __init__(self, worker: int) -> None:
        self._fields = {"worker": worker, "pid": os.getpid()}

    def __call__(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        return {**event, **self._fields}


def _without_traceback(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """The exception's type in place of its traceback: locals and messages may hold what callers sent."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
    elif error:
        event.setdefault("error", getattr(sys.exc_info()[0], "__name__", "unknown"))
    return event
