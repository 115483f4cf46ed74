"""A page that says what reached it, as a process of its own: prints its port, then serves until it is ended."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers everything with the request, as JSON; in the first message of a WebSocket where one is asked for."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.body().decode()
        target = self.requestline.split(" ")[1]  # `self.path` has slashes merged
        seen = {
            "method": self.command,
            "target": target,
            "headers": dict(self.headers.items()),
            "fields": self.headers.items(),
            "body": body,
        }
        text = json.dumps(seen).encode()
        if self.headers.get("Upgrade") == "websocket":
            self.websocket(text)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        read = b""
        while size := int(self.rfile.readline(), 16):
            read += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return read

    def websocket(self, text: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _MAGIC).digest())
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.send_header("Sec-WebSocket-Accept", accept.decode())
        self.end_headers()
        self.wfile.write(b"\x81\x7e" + len(text).to_bytes(2, "big") + text + b"\x88\x00")
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_OPTIONS = answer

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
