"""Folding stages and middlewares around an application: neighbouring stages share one coroutine and one scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import ASGIApp, Middleware
from aggmw.contracts.exchange import Stage

__all__ = ["fold"]


def fold(app: ASGIApp, parts: Sequence[Stage | Middleware]) -> ASGIApp:
    """`app` inside `parts`, the first one outermost.

    A part with a `decide` method is a stage; runs of stages become one `Stages`. Anything else is called with the
    application inside it, as `functools.partial(SomeMiddleware, option=…)` would be.
    """
    run: list[Stage] = []
    for part in reversed(parts):
        if hasattr(part, "decide"):
            run.insert(0, cast(Stage, part))
        else:
            app = part(_enclosed(app, run))
            run = []
    return _enclosed(app, run)


def _enclosed(app: ASGIApp, run: Sequence[Stage]) -> ASGIApp:
    return Stages(app, *run) if run else app
