"""Folding stages and middlewares around an application: neighbouring stages share one coroutine and one scope."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import ASGIApp, DeclaredMiddleware, Middleware
from aggmw.contracts.exchange import Stage

__all__ = ["bound", "fold"]


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


def bound(option: str, part: Middleware | DeclaredMiddleware) -> Middleware:
    """What is called with the application inside it, also for Starlette's `Middleware(cls, **options)`.

    Raises:
        TypeError: neither of the two; the text begins with `option`.
    """
    if callable(part):
        return part
    if not callable(getattr(part, "cls", None)):
        raise TypeError(f"{option} must hold middlewares: Middleware(cls, …) or a function of an application")
    return partial(_made, part)


def _made(part: DeclaredMiddleware, app: ASGIApp) -> ASGIApp:
    made: ASGIApp = part.cls(app, *part.args, **part.kwargs)
    return made


def _enclosed(app: ASGIApp, run: Sequence[Stage]) -> ASGIApp:
    return Stages(app, *run) if run else app
