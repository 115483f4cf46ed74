"""How the Python peers are served: uvicorn with httptools and uvloop, one process, no log. Prints its port."""

from __future__ import annotations

import argparse
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from benchmarks.workspace import STREAMS, Workspace

__all__ = ["PATIENCE", "Upstream", "serve"]

PATIENCE = 60.0
"""Seconds to wait for a backend: more than any answer takes, so that a slow peer is slow and not wrong."""


class Upstream(NamedTuple):
    """Where to forward to: base URLs without a path, and what TLS with them needs."""

    things: str
    streams: str
    tls: ssl.SSLContext | None

    def base(self, path: str) -> str:
        """The base URL for a path."""
        return self.streams if path.startswith(f"/apis/{STREAMS}/") else self.things


def serve(make: Callable[[Upstream], Any], description: str | None) -> None:
    """Serve what `make` makes of the command line's upstream, plain or with TLS on both sides."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("workspace", type=Path, help="directory of certificates")
    parser.add_argument("--backend", type=int, required=True, metavar="PORT", help="on 127.0.0.1, for small answers")
    parser.add_argument("--streams", type=int, required=True, metavar="PORT", help="on 127.0.0.1, for the rest")
    parser.add_argument("--tls", action="store_true", help="on both sides")
    options = parser.parse_args()
    workspace = Workspace(options.workspace)
    scheme, tls = ("https", _client_context(workspace)) if options.tls else ("http", None)
    app = make(Upstream(f"{scheme}://127.0.0.1:{options.backend}", f"{scheme}://127.0.0.1:{options.streams}", tls))
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,  # the backend's own go through
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=90,
        ssl_certfile=workspace.certificate("front") if options.tls else None,
        ssl_keyfile=workspace.key("front") if options.tls else None,
    )
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run([listener])


def _client_context(workspace: Workspace) -> ssl.SSLContext:
    """Verifies the backend and shows it a certificate, as every other proxy here does."""
    context = ssl.create_default_context(cafile=str(workspace.certificate("back-ca")))
    context.load_cert_chain(workspace.certificate("front-proxy"), workspace.key("front-proxy"))
    return context
