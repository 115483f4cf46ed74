"""Single stages in this process, µs per call: what a request costs where, without a server or a socket."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from statistics import median
from typing import Any

from aggmw.asgi.exchanges import Stages, enter, leave
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.contracts.authorization import Attributes
from aggmw.contracts.backends import APIService
from aggmw.contracts.connection import Connection
from aggmw.contracts.exchange import Stage
from aggmw.contracts.identity import Identity
from aggmw.middleware.authentication import Authentication, ClientCertificates, StaticTokens
from aggmw.middleware.authorization import Authorization, CasbinAuthorizer
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.registry import Registry, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoResolver
from aggmw.middleware.request_info.parse import parse
from aggmw.pki.make import make_ca
from benchmarks.report import Report, Row, progress
from benchmarks.workspace import GROUP, ONE, TOKEN, rules

__all__ = ["measure"]

_BATCHES = 9
_BATCH_SECONDS = 0.05
_CALLER = Identity("alice", "1042", ("developers", "team-a", "system:authenticated"))

_HEADERS = [
    (b"host", b"127.0.0.1:6443"),
    (b"user-agent", b"kubectl/v1.37.1 (linux/amd64) kubernetes/0000000"),
    (b"authorization", f"Bearer {TOKEN}".encode()),
    (b"accept", b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
    (b"accept-encoding", b"gzip"),
    (b"kubectl-command", b"kubectl get"),
    (b"kubectl-session", b"0f7c2c1e-6a43-4c0b-8a0c-1f5b1b1c2d3e"),
]


def measure(report: Report) -> None:
    """One table: stages and mechanisms, then authorization by number of rules."""
    rows: list[Row] = []
    for title, call in (*_stages(), *_authorizing()):
        progress(f"  {title}")
        times = _timed(call)
        rows.append({"call": title, "median µs": median(times), "least µs": min(times)})
    report.table("Single stages", rows)
    rows = []
    for number in (10, 1000, 10_000):
        progress(f"  loading {number} rules")
        began = time.perf_counter()
        CasbinAuthorizer.from_text(rules(number))
        rows.append({"policy": f"{number:,} rules", "load and compile, s": time.perf_counter() - began})
    report.table("Loading a policy", rows)


def _timed(call: Callable[[], object]) -> list[float]:
    """µs per call, of several batches. The collector stays on, as in a server."""
    call()
    number = 1
    while (took := _batch(call, number)) < _BATCH_SECONDS:
        number = max(number * 2, min(number * 100, int(number * _BATCH_SECONDS / max(took, 1e-9))))
    gc.collect()
    gc.freeze()
    return [_batch(call, number) / number * 1e6 for _ in range(_BATCHES)]


def _batch(call: Callable[[], object], number: int) -> float:
    began = time.perf_counter()
    for _ in range(number):
        call()
    return time.perf_counter() - began


def _run(awaitable: Awaitable[Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waited for something")


def _scope() -> Scope:
    path, _, query = ONE.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": list(_HEADERS),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 6443),
        "state": {"aggmw.connection": Connection(peer=("127.0.0.1", 50000), trailers_apart=True)},
    }


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """What is inside: says nothing, costs nothing."""


async def _receive() -> Message:
    return {"type": "http.disconnect"}


async def _send(message: Message) -> None:
    return None


def _stages() -> Iterator[tuple[str, Callable[[], object]]]:
    """Each deciding stage on a prepared exchange, then all of them from one coroutine."""
    scope = _scope()
    resolver = RequestInfoResolver()
    certificates = ClientCertificates(make_ca("benchmark").certificate)
    authentication = Authentication([certificates, StaticTokens({TOKEN: _CALLER})])
    authorization = Authorization(CasbinAuthorizer.from_text(rules(1000)))
    service = APIService.remote(GROUP, "v1", "http://127.0.0.1:1")
    registry = Registry(StaticRoutes(make_routes([service])))
    path, query = scope["raw_path"], scope["query_string"]
    exchange = enter(scope)
    given = exchange.headers

    def authenticate() -> object:
        exchange.headers = given
        return _run(authentication.decide(exchange))

    yield "enter: scope → exchange", lambda: enter(scope)
    yield "request info: parse", lambda: parse("GET", path, query)
    yield "request info: the stage", lambda: _run(resolver.decide(exchange))
    _run(resolver.decide(exchange))
    yield "authentication: the stage, static token", authenticate
    yield "authorization: the stage, remembered, 1,000 rules", lambda: _run(authorization.decide(exchange))
    yield "registry: the stage", lambda: _run(registry.decide(exchange))
    yield "leave: exchange → scope", lambda: leave(exchange)
    stages: tuple[Stage, ...] = (resolver, authentication, authorization, registry)
    fused = Stages(_nothing, *stages)
    yield "these four stages from one coroutine", lambda: _run(fused(scope, _receive, _send))
    apart: ASGIApp = _nothing
    for stage in reversed(stages):
        apart = Stages(apart, stage)
    yield "the same, each in its own shell", lambda: _run(apart(scope, _receive, _send))
    recovered = RecoveryMiddleware(fused)
    yield "recovery around the four", lambda: _run(recovered(scope, _receive, _send))


def _authorizing() -> Iterator[tuple[str, Callable[[], object]]]:
    """The authorizer alone, on questions that it never saw (P7) and on one that it did."""
    groups = tuple(f"group-of-the-caller-{number}" for number in range(47))
    caller = Identity("alice", "1042", ("developers", "team-a", *groups, "system:authenticated"))
    for number in (10, 1000, 10_000):
        authorizer = CasbinAuthorizer.from_text(rules(number))
        names = count()
        allowed = Attributes(caller, "get", True, GROUP, "v1", "things", "", "dev", "one")

        yield f"casbin, {number:,} rules, 50 groups, allow, cold", partial(_asked, authorizer, allowed, "get", names)
        denied = partial(_asked, authorizer, allowed, "deletecollection", names)
        yield f"casbin, {number:,} rules, 50 groups, deny, cold", denied
        yield f"casbin, {number:,} rules, 50 groups, remembered", partial(_again, authorizer, allowed)


def _asked(authorizer: CasbinAuthorizer, like: Attributes, verb: str, names: Iterator[int]) -> object:
    """A question that was never asked before: another name each time."""
    return _run(authorizer.authorize(like._replace(verb=verb, name=f"thing-{next(names)}")))


def _again(authorizer: CasbinAuthorizer, asked: Attributes) -> object:
    return _run(authorizer.authorize(asked))
