"""A linter around any ASGI application: every message, in both directions, is checked against the specification.

It follows the ASGI specification, HTTP & WebSocket message format 2.5 and lifespan 2.0
(https://asgi.readthedocs.io/en/latest/specs/). Put it around the whole stack, as `aggmw.testing.Client` does, or
around the application inside a middleware, to see what that middleware hands on.
"""

from __future__ import annotations

from typing import Any, Protocol

from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.testing._lint_http import HTTPRules
from aggmw.testing._lint_others import LifespanRules, WebSocketRules
from aggmw.testing._lint_shapes import LintError, check_scope

__all__ = ["LintError", "lint"]


class _Rules(Protocol):
    def received(self, message: Message) -> None: ...
    def sent(self, message: Message) -> None: ...


def lint(app: ASGIApp, *, strict_head: bool = False) -> ASGIApp:
    """Wrap `app` so that any message out of order, of the wrong shape or of the wrong length is an error.

    Checked are the scope, what the server (or the middleware outside) gives to `receive`, and what the application
    sends: types, order, header shapes (pairs of byte strings, names in lower case), `Content-Length`, bodies where none
    may be, and silence after completion. An application that returns without completing its response is not an error:
    that is how a broken upstream is told to the server.

    Args:
        app: the application; it sees scope, messages and timing unchanged.
        strict_head: also forbid a body in the answer to HEAD. Servers discard it, and frameworks rely on that.

    Raises:
        LintError: (an AssertionError) where the bad message is handed over, and again when the application ends, in
            case something in between caught it.
    """

    async def linted(scope: Scope, receive: Receive, send: Send) -> None:
        check_scope(scope)
        rules = _rules_for(scope, strict_head)
        problems: list[LintError] = []
        ended = False

        async def checked_receive() -> Message:
            message = await receive()
            with _Remembering(problems):
                rules.received(message)
            return message

        async def checked_send(message: Message) -> None:
            with _Remembering(problems):
                if ended:
                    raise LintError(f"{message.get('type')!r} was sent after the application had returned")
                rules.sent(message)
            await send(message)

        try:
            await app(scope, checked_receive, checked_send)
        except LintError:
            raise
        except Exception as error:
            if problems:
                raise problems[0] from error
            raise
        finally:
            ended = True
        if problems:
            raise problems[0]

    return linted


def _rules_for(scope: Scope, strict_head: bool) -> _Rules:
    match scope["type"]:
        case "http":
            return HTTPRules(scope, strict_head=strict_head)
        case "websocket":
            return WebSocketRules(scope)
        case _:
            return LifespanRules()


class _Remembering:
    """Keeps what is raised inside, so that a stage that catches everything cannot hide it."""

    __slots__ = ("_problems",)

    def __init__(self, problems: list[LintError]) -> None:
        self._problems = problems

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, LintError):
            self._problems.append(error)
