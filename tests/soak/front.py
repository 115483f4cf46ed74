"""A front proxy as a process of its own: run as a script, it prints its port and serves until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import structlog

from aggmw import APIService, FrontProxy
from aggmw.contracts.drain import Drain
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.proxy import Http1Transport, TransportLimits
from aggmw.net.tls import ClientCertificatePair
from aggmw.server.serving import make_server, run, settle_memory
from aggmw.server.tls import DoorTLS

__all__ = ["GROUP", "SERVER_NAME", "VERSION"]

GROUP, VERSION = "soak.example.com", "v1"
SERVER_NAME = "soak.default.svc"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=["uvloop", "asyncio"])
    parser.add_argument("backend", type=int, help="its port")
    parser.add_argument("--certificates", type=Path, help="a directory: TLS on both sides")
    parser.add_argument("--connections", type=int, default=1000, help="to the backend (default: %(default)s)")
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    directory: Path | None = options.certificates
    drain = Drain()
    tls = pair = None
    ca, scheme = b"", "http"
    if directory is not None:
        tls = DoorTLS(certificate=directory / "front.crt", key=directory / "front.key")
        pair = ClientCertificatePair(directory / "front-proxy.crt", directory / "front-proxy.key")
        ca, scheme = (directory / "ca.crt").read_bytes(), "https"
    url = f"{scheme}://127.0.0.1:{options.backend}"
    proxy = FrontProxy(
        anonymous=Anonymous.everywhere(),
        authorization=AllowAll(),
        services=[APIService.remote(GROUP, VERSION, url, ca=ca, server_name=SERVER_NAME)],
        transport=Http1Transport(
            client_certificate=pair, limits=TransportLimits(connections=options.connections), drain=drain
        ),
        drain=drain,
    )
    server = make_server(proxy, port=0, tls=tls, drain=drain, grace=2, loop=options.loop)

    async def announce() -> None:
        settle_memory()
        print(server.port, flush=True)

    return run(server, beside=announce)


if __name__ == "__main__":
    sys.exit(main())
