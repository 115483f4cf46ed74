"""A plain web service that knows nothing of Kubernetes: it believes the front proxy, which alone reaches it.

    python billing.py

Prints where it listens, and serves until standard input ends or SIGTERM comes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INVOICES = {"1001": {"customer": "Acme", "total": 120.5}, "1002": {"customer": "Globex", "total": 80.0}}


class Billing(BaseHTTPRequestHandler):
    """`/billing/invoices` and `/billing/invoices/NUMBER`; `/billing` leads to the list."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path == "/billing":
            self._answer(302, {}, location="/billing/invoices")
        elif path == "/billing/invoices":
            self._answer(200, {"asked by": self.headers["X-Remote-User"], "invoices": sorted(INVOICES)})
        elif (invoice := INVOICES.get(path.removeprefix("/billing/invoices/"))) is not None:
            self._answer(200, invoice)
        else:
            self._answer(404, {"error": "no such page"})

    do_HEAD = do_GET

    def _answer(self, status: int, document: object, location: str = "") -> None:
        body = json.dumps(document).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: whoever wants to know who asked what looks at the front proxy."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Billing)
    server.daemon_threads = True
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
