"""The peer asgiproxy: its own application on aiohttp, with a base URL for each of the two backends."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from asgiproxy.config import ProxyConfig
from asgiproxy.context import ProxyContext
from asgiproxy.simple_proxy import make_simple_proxy_app

from benchmarks.load import CONNECTIONS
from benchmarks.peers.serving import Upstream, serve
from benchmarks.workspace import SERVER_NAME


class _Config(ProxyConfig):
    """What asgiproxy asks its user for: where to, and with which Host and TLS."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def get_upstream_url(self, *, scope: Any) -> str:
        path: str = scope["path"]
        return self._upstream.base(path) + path

    def process_client_headers(self, *, scope: Any, headers: Any) -> Any:
        changed = headers.mutablecopy()
        changed["host"] = urlsplit(self._upstream.base(scope["path"])).netloc
        return changed

    def get_upstream_http_options(self, *, scope: Any, client_request: Any, data: Any) -> dict[str, Any]:
        options = super().get_upstream_http_options(scope=scope, client_request=client_request, data=data)
        if self._upstream.tls is not None:
            options |= {"ssl": self._upstream.tls, "server_hostname": SERVER_NAME}
        return options


def _make(upstream: Upstream) -> Any:
    """As many requests at once as there are clients; its default is 20."""
    return make_simple_proxy_app(ProxyContext(_Config(upstream), max_concurrency=2 * CONNECTIONS))


if __name__ == "__main__":
    serve(_make, __doc__)
