"""Cookies, origins and the age of streams, from a configuration to the front proxy that it comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggmw.config import load
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.drain import Drain
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import issue_client, make_ca
from aggmw.testing import Client, Hold, ReadHead, ScriptedBackend, Send, VirtualClock, respond

COOKIE = ("Cookie", "__Host-aggmw=token")
WATCH = "/apis/notes.example.com/v1/notes?watch=true"
CONFIG = """
authentication: {tokenFile: tokens.csv, cookie: __Host-aggmw, origins: ["https://console.example.com"]}
authorization: {policy: policy.csv}
services: {files: [services.yaml]}
streams: {maxAge: 20s}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with credentials, and alice, who may do everything."""
    (tmp_path / "clients.crt").write_bytes(make_ca("clients").certificate)
    (tmp_path / "tokens.csv").write_text("token,alice,1\n")
    (tmp_path / "policy.csv").write_text("p, user:alice, *, *, *, *, *\np2, user:alice, *, /*\n")
    pair = issue_client(make_ca("services"), "front-proxy")
    (tmp_path / "front-proxy.crt").write_bytes(pair.certificate)
    (tmp_path / "front-proxy.key").write_bytes(pair.key)
    return tmp_path


def composed(place: Path, url: str) -> Composed:
    (place / "config.yaml").write_text(CONFIG)
    (place / "services.yaml").write_text(
        f"""
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1.notes.example.com, annotations: {{aggmw/url: "{url}"}}}}
spec:
  group: notes.example.com
  version: v1
  service: {{namespace: notes, name: api}}
  groupPriorityMinimum: 1000
  versionPriority: 15
"""
    )
    pair = ClientCertificatePair(place / "front-proxy.crt", place / "front-proxy.key")
    return compose(load(place / "config.yaml"), Credentials(place / "clients.crt", pair), Drain())


async def test_c5_10_cookie_and_origins(place: Path) -> None:
    """C5.10: a token of the file in the cookie is its owner, whose pages have to be listed."""
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as server:
        proxy = composed(place, server.url).front_proxy
        async with proxy:
            statuses = [
                (await Client(proxy).request(method, "/apis/notes.example.com/v1/notes/a", [COOKIE, *origin])).status
                for method in ("GET", "DELETE")
                for origin in ([], [("Origin", "https://console.example.com")], [("Origin", "https://evil.example")])
            ]
    assert statuses == [200, 200, 200, 200, 200, 403]


async def test_c5_11_age_of_streams(place: Path, clock: VirtualClock) -> None:
    """C5.11: a watch ends at the configured age."""
    stream = [ReadHead(), Send(respond(headers={"Transfer-Encoding": "chunked"}) + b"4\r\none\n\r\n"), Hold()]
    async with ScriptedBackend(stream) as server:
        proxy = composed(place, server.url).front_proxy
        async with proxy, Client(proxy).stream("GET", WATCH, [COOKIE]) as response:
            assert await anext(response) == b"one\n"
            await clock.advance(20)
            assert await response.read() == b""
            assert response.complete
