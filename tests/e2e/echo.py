"""A page that says what reached it, as a process of its own: prints its port, then serves until it is ended."""

from __future__ import annotations

import http.server
import json


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers everything with the request, as JSON."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        headers = dict(self.headers.items())
        text = json.dumps({"method": self.command, "target": self.path, "headers": headers, "body": body}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
