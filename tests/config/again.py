"""Reading again what a configuration names."""

from __future__ import annotations

from inspect import isawaitable

from aggmw.config.compose import Composed


async def read_again(made: Composed, what: str) -> None:
    """As SIGHUP does."""
    result = made.reloads[what]()
    if isawaitable(result):
        await result
