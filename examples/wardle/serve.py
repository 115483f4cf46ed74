"""The process: arguments, TLS, one line when it is ready, a proper end."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from aggmw.errors import ConfigurationError
from aggmw.server.door import Door

from .app import make_app
from .storage import Storage
from .trust import FrontProxyOnly

GRACE = 2  # seconds that answers have to finish after SIGTERM


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wardle", description="An aggregated API server with flunders in memory.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (%(default)s)")
    parser.add_argument("--cert", type=Path, required=True, help="this server's certificate, PEM")
    parser.add_argument("--key", type=Path, required=True, help="its private key, PEM")
    parser.add_argument("--client-ca", type=Path, required=True, help="the front-proxy CA, PEM")
    parser.add_argument("--allowed-name", action="append", help="common name of the front proxy (front-proxy-client)")
    parser.add_argument("--log", type=Path, help="append a JSON line for each request here (default: standard output)")
    parser.add_argument("--ready-after", type=float, default=0.5, help="seconds until a flunder is Ready (%(default)s)")
    parser.add_argument("--stop-at-eof", action="store_true", help="end when standard input ends: with its parent")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT, or the end of standard input; the exit status is 0 then, and 2 for a mistake."""
    options = arguments().parse_args(argv)
    storage = Storage(revision=time.time_ns() // 1_000_000)
    try:
        authority = options.client_ca.read_bytes()
        app = FrontProxyOnly(
            make_app(storage, ready_after=options.ready_after),
            authority=authority,
            allowed_names=options.allowed_name or ["front-proxy-client"],
            log=_logger(options.log),
        )
        context = tls(options.cert, options.key, authority)
        listener = socket.create_server((options.host, options.port), family=_family(options.host))
    except ConfigurationError as error:
        return _mistake(str(options.client_ca), error.problems[0].message)
    except ssl.SSLError as error:
        return _mistake(str(options.cert), f"certificate and key cannot be used: {error.reason or error}")
    except OSError as error:
        return _mistake(str(error.filename or f"{options.host}:{options.port}"), error.strerror or error)
    config = uvicorn.Config(
        app,
        http=Door,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ssl_context_factory=lambda *_: context,
        timeout_graceful_shutdown=GRACE,
    )
    _Server(config, storage, listener, stop_at_eof=options.stop_at_eof).run(sockets=[listener])
    return 0


def tls(certificate: Path, key: Path, authority: bytes) -> ssl.SSLContext:
    """A client certificate is asked for, not demanded: health is for everybody; `trust` decides the rest.

    No session is resumed: OpenSSL would not verify the client's certificate again.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(cadata=authority.decode("ascii", "replace"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Server(uvicorn.Server):
    """Watches end before uvicorn waits for open responses, and a signal is a normal end."""

    def __init__(self, config: uvicorn.Config, storage: Storage, listener: socket.socket, *, stop_at_eof: bool) -> None:
        super().__init__(config)
        self._storage = storage
        self._listener = listener
        self._stop_at_eof = stop_at_eof

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        if self._stop_at_eof:
            loop.add_reader(0, self._read_parent)
        host, port = self._listener.getsockname()[:2]
        print(f"listening on https://{f'[{host}]' if ':' in host else host}:{port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    def _stop(self) -> None:
        self._storage.close()
        self.should_exit = True

    def _read_parent(self) -> None:
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self._stop()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _logger(path: Path | None) -> Callable[[str], object]:
    if path is None:
        return lambda line: print(line, flush=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    file = os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)
    return lambda line: file.write(line + "\n")


def _mistake(path: str, what: object) -> int:
    print(f"{path}: {what}", file=sys.stderr)
    return 2
