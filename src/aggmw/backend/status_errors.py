"""StatusErrors: what a handler raises is what a client of Kubernetes understands."""

from __future__ import annotations

from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.errors import StatusError
from aggmw.objects.status import answer_of

__all__ = ["StatusErrors"]


class StatusErrors:
    """A `StatusError` raised inside becomes a Kubernetes `Status`; other exceptions, and answers, are left alone.

    Once the response has begun it is too late for another one: the exception goes on to the server.

    Args:
        app: what is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.aggmw_stages = stand("status_errors", app)
        self._app = app

    def __repr__(self) -> str:
        return f"StatusErrors → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except StatusError as error:
            if started:
                raise
            await respond(scope, send, answer_of(error))
