"""A server of one page under many names, which also signs people in and takes what pages report."""

from __future__ import annotations

import json
import queue
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aggmw.pki.make import issue_server, make_ca

__all__ = ["PageServer"]


class PageServer:
    """Listens on a free port of loopback, with TLS.

    - `/sign-in?URL` sets the cookie for its host, as one that browsers send from everywhere, and leads to the URL.
    - `/page` is the page.
    - `/report` takes JSON.

    Args:
        directory: for its certificate, which no browser trusts by itself.
        cookie: name and value.
    """

    def __init__(self, directory: Path, cookie: str) -> None:
        pair = issue_server(make_ca("pages"), "pages", names=["localhost"])
        file = directory / "pages.pem"
        file.write_bytes(pair.certificate + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        self.page = b""
        self.cookie = f"{cookie}; Path=/; Secure; HttpOnly; SameSite=None"
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.pages = self
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def wait_until_idle(self) -> None:
        """Until no browser is connected any more; fails after a minute."""
        with self._server.changed:
            assert self._server.changed.wait_for(lambda: not self._server.open, 60), f"open: {self._server.open}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.wait_until_idle()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    pages: PageServer

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open: set[socket.socket] = set()
        self.changed = threading.Condition()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.changed:
            self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.changed:
            self.open.discard(request)
            self.changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/sign-in":
            self.send_response(303)
            self.send_header("Location", query)
            self.send_header("Set-Cookie", self.server.pages.cookie)
        else:
            self.send_response(200 if path == "/page" else 404)
            self.send_header("Content-Type", "text/html")
        self.end_headers()
        if path == "/page":
            self.wfile.write(self.server.pages.page)

    def do_POST(self) -> None:
        self.server.pages.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""
