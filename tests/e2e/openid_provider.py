"""A certified OpenID provider in a process of its own, and a server behind the proxy that tells who asked."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aggmw.pki.make import KeyPair, issue_server

PEER = Path(__file__).parent.parent / "peers" / "oidc-provider"
GROUP, VERSION = "wardle.example.com", "v1alpha1"


class OpenIDProvider:
    """`oidc-provider` on a port of this machine, behind TLS; it can be stopped and started again.

    Args:
        port: where.
        authority: signs its certificate.
        place: a directory for its files.
    """

    def __init__(self, port: int, authority: KeyPair, place: Path) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self._port = port
        made = issue_server(authority, "provider", names=["127.0.0.1"])
        self._files = place / "provider.crt", place / "provider.key"
        for file, content in zip(self._files, (made.certificate, made.key), strict=True):
            file.write_bytes(content)
        self._context = ssl.create_default_context(cadata=authority.certificate.decode())
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, with a new key, and wait until it listens."""
        node = shutil.which("node")
        if node is None:
            pytest.fail("Node.js is missing: apt-get install nodejs npm", pytrace=False)
        if not (PEER / "node_modules").is_dir():
            pytest.fail(f"nothing is installed in {PEER}: make e2e does that", pytrace=False)
        self._process = subprocess.Popen(
            [node, "server.mjs", str(self._port), *map(str, self._files)],
            cwd=PEER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answered("ready")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def tell(self, command: str) -> None:
        """A line of `server.mjs`."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self._answered("done")

    def token(self, **options: str) -> str:
        """A new access token of jane's."""
        form = {"grant_type": "client_credentials", "client_id": "jane", "client_secret": "secret", "scope": "flunders"}
        body = urllib.parse.urlencode(form | options).encode()
        with urllib.request.urlopen(f"{self.url}/token", body, 20, context=self._context) as answer:
            token: str = json.load(answer)["access_token"]
        return token

    def _answered(self, expected: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:  # the provider itself writes warnings between them
            if line.strip() == expected:
                return
        pytest.fail(f"the provider ended instead of saying {expected!r}", pytrace=False)


class Flunders(BaseHTTPRequestHandler):
    """A group version with one resource; each object is named after who asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        kind = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["list"]}
        document: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
        if path == f"/apis/{GROUP}/{VERSION}":
            document = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}"}
            document["resources"] = [kind]
        elif path.endswith("/flunders"):
            user = self.headers.get("X-Remote-User", "nobody").replace(":", "-")
            item = {"metadata": {"name": user, "namespace": "default"}, "kind": "Flunder"}
            document = {"kind": "FlunderList", "metadata": {"resourceVersion": "1"}}
            document |= {"apiVersion": f"{GROUP}/{VERSION}", "items": [item | {"apiVersion": f"{GROUP}/{VERSION}"}]}
        body = json.dumps(document).encode()
        self.send_response(document.get("code", 200))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def flunders() -> Iterator[str]:
    """The server behind; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Flunders) as server:
        server.daemon_threads = False  # so that leaving waits for their ends
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
