"""A front proxy behind another one, over TLS: the caller of the first is the caller of the second, nobody else."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.server.test_tls_door import client

from aggmw import FrontProxy, Identity, PathService
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.middleware.authentication import ClientCertificates, FrontProxies, StaticTokens
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.proxy import Http1Transport
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import KeyPair, issue_client, make_ca
from aggmw.server.tls import DoorTLS


async def core(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who asks."""
    if scope["type"] == "http":
        identity: Identity = scope["aggmw.identity"]
        body = f"{identity.user} {','.join(identity.groups)} {dict(identity.extra)}".encode()
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def second(
    serve: Callable[..., Any], loop: str, certificate: tuple[Path, Path], fronts: KeyPair, clients: KeyPair
) -> Any:
    """Believes front proxies of one authority, and clients of another."""
    door = [fronts.certificate, clients.certificate]
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=door)
    authenticators = [
        FrontProxies(fronts.certificate, allowed_names=["front-proxy"]),
        ClientCertificates(clients.certificate),
    ]
    proxy = FrontProxy(core, authentication=authenticators, authorization=AllowAll())
    return serve(proxy, loop=loop, tls=tls, lifespan=False)


@pytest.fixture
def fronts() -> KeyPair:
    return make_ca("front proxies")


@pytest.fixture
def clients() -> KeyPair:
    return make_ca("clients")


def test_caller_of_the_first_is_the_caller_of_the_second(
    serve: Callable[..., Any], loop: str, authority: KeyPair, fronts: KeyPair, tmp_path: Path, second: Any
) -> None:
    """What a client says of itself is gone at the first; what the first says is believed by the second."""
    pair = issue_client(fronts, "front-proxy")
    (tmp_path / "front.crt").write_bytes(pair.certificate)
    (tmp_path / "front.key").write_bytes(pair.key)
    transport = Http1Transport(client_certificate=ClientCertificatePair(tmp_path / "front.crt", tmp_path / "front.key"))
    url = f"https://127.0.0.1:{second.port}"
    service = PathService("/", url, ca=authority.certificate, server_name="localhost")
    alice = Identity("alice", groups=("dev",), extra={"scopes": ("a",)})
    first = FrontProxy(
        authentication=[StaticTokens({"t": alice})],
        authorization=AllowAll(),
        services=[service],
        transport=transport,
    )
    wire = serve(first, loop=loop, lifespan=False).connect()
    wire.send(
        b"GET /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nX-Remote-User: root\r\nX_Remote_Group: ops\r\n\r\n"
    )
    status, _, body = wire.response()
    assert (status, body) == (200, b"alice dev,system:authenticated {'scopes': ('a',)}")


@pytest.mark.parametrize(
    ("authority_of", "name", "answer"),
    [
        ("fronts", "front-proxy", (200, b"root ops,system:authenticated {}")),
        ("fronts", "other", (401, None)),
        ("clients", "front-proxy", (200, b"front-proxy system:authenticated {}")),
    ],
)
def test_who_may_speak_for_others(
    request: pytest.FixtureRequest,
    authority: KeyPair,
    tmp_path: Path,
    second: Any,
    authority_of: str,
    name: str,
    answer: tuple[int, bytes | None],
) -> None:
    """http-facts 6: by the root of the certificate and its name; a client with that name speaks for itself alone."""
    pair = issue_client(request.getfixturevalue(authority_of), name)
    context: ssl.SSLContext = client(authority, tmp_path, pair)
    wire = second.connect(context)
    wire.send(b"GET /x HTTP/1.1\r\nHost: x\r\nX-Remote-User: root\r\nX-Remote-Group: ops\r\n\r\n")
    status, _, body = wire.response()
    assert status == answer[0]
    if answer[1] is not None:
        assert body.split(b" {")[0] == answer[1].split(b" {")[0]
