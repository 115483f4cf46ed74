"""Single parts in this process, µs per call: what a request costs where, without a socket.

`benchmarks.parts` sets them beside what whole servers cost.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, TypeAlias

from uvicorn.config import Config
from uvicorn.server import ServerState

from aggmw.asgi.exchanges import Stages, enter, leave
from aggmw.asgi.types import ASGIApp, Headers, Message, Receive, Scope, Send
from aggmw.contracts.backends import AnyBackend, APIService, Backend, PathService, UpstreamRequest
from aggmw.contracts.connection import Connection
from aggmw.contracts.exchange import Stage
from aggmw.contracts.identity import Identity
from aggmw.middleware.authentication import Authentication, ClientCertificates, StaticTokens
from aggmw.middleware.authorization import Authorization, CasbinAuthorizer
from aggmw.middleware.discovery import Discovery
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.proxy import AsgiTransport, ProxyMiddleware, Transports
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.registry import Registry, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoResolver
from aggmw.middleware.request_info.parse import parse
from aggmw.pki.make import make_ca
from aggmw.server.door import Door
from benchmarks.policies import SIZES, decisions, loading, strangers
from benchmarks.reloads import reloading
from benchmarks.report import Figure, Report, Row, progress
from benchmarks.roles import BINDINGS, binding_decisions, binding_loading
from benchmarks.tokens import COLD, REMEMBERED, token_checks
from benchmarks.workspace import ANSWER, GROUP, ONE, TOKEN, rules

__all__ = ["DOOR", "FUSED", "ONE_SERVER", "PROXY", "RECOVERY", "STAGES", "THREE_SERVERS", "measure", "tokens"]

DOOR = "the door: a head in, a task, an answer out"
PROXY = "ProxyMiddleware, for a backend that answers at once"
ONE_SERVER = "a transport, for a service with one server"
THREE_SERVERS = "a transport, for a service with three servers"
RECOVERY = "recovery: request id, response head, what metrics is told"
FUSED = "all deciding stages, from one coroutine"
STAGES = (
    "request_info",
    "authentication, a static token",
    "authorization, a remembered verdict",
    "metrics, before",
    "discovery, a path of a backend",
    "registry",
)
"""The deciding stages, in their order."""

Call: TypeAlias = Callable[[], object]
Batch: TypeAlias = Callable[[int], float]
"""Makes so many calls; the seconds that they took."""

STRANGERS = 1_000_000
RELOADED = 100_000
_BATCHES = 9
_BATCH_SECONDS = 0.05
CALLER = Identity("alice", "1042", ("developers", "team-a", "system:authenticated"))
_BODY = ANSWER.encode()
_FIELDS: Headers = (
    (b"server", b"nginx"),
    (b"date", b"Wed, 25 Nov 2026 09:00:00 GMT"),
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"connection", b"keep-alive"),
)
_HEADERS = [
    (b"host", b"127.0.0.1:6443"),
    (b"user-agent", b"kubectl/v1.37.1 (linux/amd64) kubernetes/0000000"),
    (b"authorization", f"Bearer {TOKEN}".encode()),
    (b"accept", b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
    (b"accept-encoding", b"gzip"),
    (b"kubectl-command", b"kubectl get"),
    (b"kubectl-session", b"0f7c2c1e-6a43-4c0b-8a0c-1f5b1b1c2d3e"),
]


def measure(report: Report, *, seconds: float = _BATCH_SECONDS) -> Mapping[str, float]:
    """Tables of parts of a request, its deciding stages, policies and tokens. The medians by line.

    Args:
        seconds: how long a batch of calls takes at least.
    """
    loop = asyncio.new_event_loop()
    try:
        found = _table(report, "Single parts", (*_on(loop), *_of(_stages())), seconds)
    finally:
        loop.close()
    found |= _growing(report, seconds)
    found |= tokens(report, seconds=seconds)
    return found | policies(report, seconds=seconds)


def policies(report: Report, *, seconds: float = _BATCH_SECONDS) -> dict[str, float]:
    """What deciding costs by number of rules or bindings, loading, a reload, and strangers. The medians by line."""
    sizes = SIZES if seconds else SIZES[:-1]
    found = _table(report, "Policies", _of(decisions(sizes)), seconds)
    found |= _table(report, "Roles and bindings", _of(binding_decisions(sizes)), seconds)
    for name, title in (("allow cold", "allow, cold"), ("deny cold", "deny, cold"), ("remembered", "remembered")):
        report.reached(name, Figure(found[f"casbin, 10,000 rules, 50 groups, {title}"]))
    for answer in ("allow", "deny"):
        report.reached(f"RBAC {answer}", Figure(found[f"{BINDINGS}, {answer}"]))
    loading(report, sizes)
    binding_loading(report, sizes)
    reloading(report, RELOADED if seconds else 1000)
    strangers(report, STRANGERS if seconds else 1000)
    return found


def tokens(report: Report, *, seconds: float = _BATCH_SECONDS) -> dict[str, float]:
    """What judging a bearer token costs. The medians by line."""
    found = _table(report, "Tokens", _of(token_checks(_run)), seconds)
    report.reached("token remembered", Figure(found[REMEMBERED]))
    for name, title in COLD.items():
        report.reached(f"{name} token cold", Figure(found[title]))
    return found


def _table(report: Report, title: str, calls: Iterable[tuple[str, Batch]], seconds: float) -> dict[str, float]:
    found: dict[str, float] = {}
    rows: list[Row] = []
    for line, batch in calls:
        progress(f"  {line}")
        times = _timed(batch, seconds)
        found[line] = median(times)
        rows.append({"call": line, "median µs": median(times), "least µs": min(times)})
    report.table(title, rows)
    return found


def _timed(batch: Batch, seconds: float) -> list[float]:
    """µs per call, of several batches. The collector stays on, as in a server."""
    batch(1)
    number = 1
    while (took := batch(number)) < seconds:
        number = max(number * 2, min(number * 100, int(number * seconds / max(took, 1e-9))))
    gc.collect()
    gc.freeze()
    return [batch(number) / number * 1e6 for _ in range(_BATCHES)]


def _of(calls: Iterator[tuple[str, Call]]) -> Iterator[tuple[str, Batch]]:
    """Batches of plain calls."""
    for title, call in calls:
        yield title, partial(_batch, call)


def _batch(call: Call, number: int) -> float:
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


def scope_of_a_request() -> Scope:
    """As the door makes it."""
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


async def _answering(scope: Scope, receive: Receive, send: Send) -> None:
    """What is inside: the answer of the backend."""
    await send({"type": "http.response.start", "status": 200, "headers": list(_FIELDS)})
    await send({"type": "http.response.body", "body": _BODY})


async def receive() -> Message:
    """The client says no more."""
    return {"type": "http.disconnect"}


async def send(message: Message) -> None:
    """The client takes everything."""
    return None


# On an event loop


def _on(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[str, Batch]]:
    """The two ends of a request, each with what is beyond it left out."""

    async def door(number: int) -> float:
        config = Config(_answering, lifespan="off", ws="none", log_config=None, access_log=False)
        connection = Door(config, ServerState(), {}, loop)
        connection.connection_made(_Wire())
        fields = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in _HEADERS)
        request = f"GET {ONE} HTTP/1.1\r\n{fields}\r\n".encode()
        began = time.perf_counter()
        for _ in range(number):
            connection.data_received(request)
            await asyncio.sleep(0)
        took = time.perf_counter() - began
        connection.connection_lost(None)
        return took

    async def proxy(number: int) -> float:
        backend = Backend("bench", "127.0.0.1", 1, tls=False)
        info = parse("GET", ONE.encode(), b"")
        forward = ProxyMiddleware(
            _nothing, transport=_Transport(), backend=backend, request_info=lambda exchange: info, anonymous=True
        )
        scope = scope_of_a_request()
        began = time.perf_counter()
        for _ in range(number):
            await forward(scope, receive, send)
        return time.perf_counter() - began

    async def balance(backend: AnyBackend, number: int) -> float:
        transport, request = Transports(_Transport(), AsgiTransport()), UpstreamRequest(b"GET", ONE.encode())
        began = time.perf_counter()
        for _ in range(number):
            response = await transport.send(backend, request)
            await response.aclose()
        return time.perf_counter() - began

    def balancing(urls: Sequence[str]) -> Batch:
        backend = PathService("/x/", urls).backend
        return lambda number: loop.run_until_complete(balance(backend, number))

    yield DOOR, lambda number: loop.run_until_complete(door(number))
    yield PROXY, lambda number: loop.run_until_complete(proxy(number))
    yield ONE_SERVER, balancing(["http://127.0.0.1:1"])
    yield THREE_SERVERS, balancing(["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"])


class _Wire(asyncio.Transport):
    """A client's connection that takes everything and goes nowhere."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 6443)})

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class _Transport:
    """An `UpstreamTransport` whose backend answers before it was asked."""

    async def send(self, backend: AnyBackend, request: UpstreamRequest) -> _Response:
        return _Response()

    async def aclose(self) -> None:
        pass


class _Response:
    status = 200
    headers = _FIELDS
    content = _BODY

    async def read(self) -> bytes:
        return _BODY

    def end(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


# Without


def _deciding() -> tuple[Stage, ...]:
    """The deciding stages of a front proxy, one for each of `STAGES`."""
    certificates = ClientCertificates(make_ca("benchmark").certificate)
    routes = StaticRoutes(make_routes([APIService.remote(GROUP, "v1", "http://127.0.0.1:1")]))
    return (
        RequestInfoResolver(),
        Authentication([certificates, StaticTokens({TOKEN: CALLER})]),
        Authorization(CasbinAuthorizer.from_text(rules(1000))),
        _metrics(),
        Discovery(routes, _Transport()),
        Registry(routes),
    )


def _metrics() -> Metrics:
    return Metrics(known=lambda *names: True)


def _stages() -> Iterator[tuple[str, Call]]:
    """Recovery, and all deciding stages from one coroutine and apart."""
    scope = scope_of_a_request()
    stages = _deciding()
    recovery = RecoveryMiddleware(_answering, observers=[_metrics()])
    fused = Stages(_nothing, *stages)
    apart: ASGIApp = _nothing
    for stage in reversed(stages):
        apart = Stages(apart, stage)

    yield RECOVERY, lambda: _run(recovery(scope, receive, send))
    yield FUSED, lambda: _run(fused(scope, receive, send))
    yield "the same, each in its own shell", lambda: _run(apart(scope, receive, send))
    exchange = enter(scope)
    yield "enter: scope → exchange", lambda: enter(scope)
    yield "leave: exchange → scope", lambda: leave(exchange)


def _growing(report: Report, seconds: float) -> dict[str, float]:
    """What each deciding stage costs more than those before it, on a new exchange each time."""
    scope = scope_of_a_request()
    stages = _deciding()
    rows: list[Row] = []
    found: dict[str, float] = {}

    async def decided(number: int) -> None:
        exchange = enter(scope)
        for stage in stages[:number]:
            await stage.decide(exchange)

    def decide(number: int) -> object:
        return _run(decided(number))

    before = median(_timed(partial(_batch, partial(decide, 0)), seconds))
    for number, title in enumerate(STAGES, 1):
        progress(f"  {title}")
        now = median(_timed(partial(_batch, partial(decide, number)), seconds))
        found[title] = now - before
        rows.append({"stage": title, "µs": now - before, "with those before": now})
        before = now
    report.table("Deciding stages, each on top of those before it", rows)
    return found
