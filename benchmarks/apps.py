"""One aggmw server as a process of its own: `python -m benchmarks.apps CASE …`, on our door or on granian.

Prints its port when it listens. The cases are `answer` (no forwarding: what the server costs), `bare`
(`ProxyMiddleware` alone) and `stack` (the whole `FrontProxy`).
"""

from __future__ import annotations

import argparse
import cProfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.backends import AnyBackend, APIService
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.server import logs
from benchmarks.serving import SERVERS
from benchmarks.workspace import ANSWER, GROUP, SERVER_NAME, STREAMS, TOKEN, Workspace, rules

if TYPE_CHECKING:
    from aggmw.middleware.proxy import Http1Transport

__all__ = ["APPS", "Options"]

CALLER = Identity("alice", "1042", ("developers", "team-a", "on-call"), {"example.com/tenant": ["blue"]})


class Options(NamedTuple):
    """What a case is built from."""

    workspace: Workspace
    backend: int
    streams: int
    tls: bool
    rules: int
    drain: Drain


def answer(options: Options) -> ASGIApp:
    """An application that only answers, with as many bytes as the backend."""
    body = ANSWER.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    for word in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{word}.complete"})


def bare(options: Options) -> ASGIApp:
    """`ProxyMiddleware` alone: no request parser, no identity, no policy."""
    from aggmw.front_proxy import not_found
    from aggmw.middleware.proxy import ProxyMiddleware

    backends = [service.backend for service in _services(options)]
    things, streams = backends
    prefix = f"/apis/{STREAMS}/"

    def backend(exchange: Exchange) -> AnyBackend | None:
        return streams if exchange.scope["path"].startswith(prefix) else things

    def request_info(exchange: Exchange) -> RequestInfo:
        scope = exchange.scope
        path, query = scope["raw_path"], scope["query_string"]
        target = path + b"?" + query if query else path
        method = scope.get("method", "GET")
        watch = b"watch=" in query
        timeout = None if watch else 60.0
        return RequestInfo(False, method, method, scope["path"], target, long_running=watch, timeout=timeout)

    async def core(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await not_found(scope, receive, send)

    transport = _transport(options)
    return ProxyMiddleware(
        core, transport=transport, backend=backend, request_info=request_info, anonymous=True, drain=options.drain
    )


def stack(options: Options) -> ASGIApp:
    """`FrontProxy` as P3 has it: a bearer token, a casbin policy, discovery routing, identity headers, metrics."""
    from aggmw import FrontProxy
    from aggmw.middleware.authentication import ClientCertificates, StaticTokens
    from aggmw.middleware.authorization import CasbinAuthorizer
    from aggmw.middleware.metrics import Metrics

    return FrontProxy(
        authentication=[
            ClientCertificates(options.workspace.certificate("front-ca").read_bytes()),
            StaticTokens({TOKEN: CALLER}),
        ],
        authorization=CasbinAuthorizer.from_text(rules(options.rules)),
        services=_services(options),
        transport=_transport(options),
        metrics=Metrics(),
        drain=options.drain,
    )


def _transport(options: Options) -> Http1Transport:
    from aggmw.middleware.proxy import Http1Transport
    from aggmw.net.tls import ClientCertificatePair

    workspace = options.workspace
    pair = ClientCertificatePair(workspace.certificate("front-proxy"), workspace.key("front-proxy"))
    return Http1Transport(client_certificate=pair if options.tls else None, drain=options.drain)


def _services(options: Options) -> list[APIService]:
    scheme, ca = ("https", options.workspace.certificate("back-ca").read_bytes()) if options.tls else ("http", b"")
    return [
        APIService.remote(group, "v1", f"{scheme}://127.0.0.1:{port}", ca=ca, server_name=SERVER_NAME)
        for group, port in ((GROUP, options.backend), (STREAMS, options.streams))
    ]


APPS: dict[str, Callable[[Options], ASGIApp]] = {"answer": answer, "bare": bare, "stack": stack}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.apps", description=__doc__)
    parser.add_argument("case", choices=APPS)
    parser.add_argument("workspace", type=Path, help="directory of certificates")
    parser.add_argument("--backend", type=int, required=True, metavar="PORT", help="on 127.0.0.1, for small answers")
    parser.add_argument("--streams", type=int, required=True, metavar="PORT", help="on 127.0.0.1, for the rest")
    parser.add_argument("--tls", action="store_true", help="on both sides")
    parser.add_argument("--rules", type=int, default=10, help="rows of the policy (default: %(default)s)")
    parser.add_argument("--server", choices=SERVERS, default="door", help="what it runs on (default: %(default)s)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="write what cProfile saw to FILE at the end")
    options = parser.parse_args()
    logs.configure("warning")
    workspace, drain = Workspace(options.workspace), Drain()
    app = APPS[options.case](Options(workspace, options.backend, options.streams, options.tls, options.rules, drain))
    serve = partial(SERVERS[options.server], app, drain, workspace if options.tls else None, _announce)
    if options.profile is None:
        serve()
        return
    profile = cProfile.Profile()
    profile.runcall(serve)
    profile.dump_stats(options.profile)


def _announce(port: int) -> None:
    print(port, flush=True)


if __name__ == "__main__":
    main()
