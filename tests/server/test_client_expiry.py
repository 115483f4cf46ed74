"""A client certificate that ends while its connection goes on (security cases C5.11)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.server.test_tls_door import client

from aggmw import FrontProxy
from aggmw.middleware.authentication import ClientCertificates
from aggmw.middleware.authorization import AllowAll
from aggmw.pki.make import KeyPair, issue_client, make_ca
from aggmw.server.tls import DoorTLS

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def test_c5_11_expired_on_an_open_connection(
    serve: Callable[..., Any],
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    tmp_path: Path,
) -> None:
    """C5.11: no request is let in by a certificate that is over, however long ago its connection was verified."""
    users = make_ca("users")
    moved = 0.0

    async def core(scope: Any, receive: Any, send: Any) -> None:
        body = scope["aggmw.identity"].user.encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    certificates = ClientCertificates(users.certificate, clock=lambda: time.time() + moved)
    front = FrontProxy(core, authentication=[certificates], authorization=AllowAll())
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=[users.certificate])
    served = serve(front, loop=loop, tls=tls, lifespan=False)
    pair = issue_client(users, "alice", lifetime=timedelta(hours=1))
    wire = served.connect(client(authority, tmp_path, pair))
    wire.send(GET)
    status, _, body = wire.response()
    assert (status, body) == (200, b"alice")
    moved = 3700.0
    for _ in range(2):
        wire.send(GET)
        assert wire.response()[0] == 401
    moved = 0.0
    wire.send(GET)
    assert wire.response()[0] == 200
