"""Mounting where a framework does not say so in the scope."""

from __future__ import annotations

from urllib.parse import quote, unquote

from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.options import check_application
from aggmw.objects.status import status_answer

__all__ = ["MountedAt"]

_NO_RAW_PATH = status_answer(
    500, "InternalError", "Internal error occurred: MountedAt needs raw_path, which this server does not give"
)


class MountedAt:
    """An application below a path, for frameworks that cut that path out of `path` and do not add it to `root_path`.

    Starlette, FastAPI and uvicorn's `--root-path` say in `root_path` what is in front; Litestar's mounts say it nowhere
    and rewrite `path` besides. This puts both right, from `raw_path`: what is inside sees the path as it was sent,
    below `root_path`. Around anything else that passes requests on by their path it does the same.

    Args:
        app: what is mounted.
        path: where, such as "/k8s".

    Raises:
        TypeError: `app` is no application.
        ValueError: a path that is not plain: "/k8s", "/a/b".
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        if not path.startswith("/") or path.endswith("/") or quote(path) != path:
            raise ValueError(f"MountedAt: {path!r} must begin and not end with a slash, and need no escapes")
        check_application("MountedAt: app", app)
        self._app = app
        self._path = path

    def __repr__(self) -> str:
        return f"MountedAt({shown(self._app)}, {self._path!r})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            raw_path: bytes | None = scope.get("raw_path")
            if raw_path is None:
                await respond(scope, send, _NO_RAW_PATH)
                return
            root_path = (scope.get("root_path") or "").rstrip("/") + self._path
            scope = {**scope, "path": unquote(raw_path.decode("latin-1")), "root_path": root_path}
        await self._app(scope, receive, send)
