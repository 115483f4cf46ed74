"""The metrics stage: counts what is in flight and what is over, and answers `/metrics`; and its ASGI shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from weakref import WeakKeyDictionary

import structlog

from aggmw.asgi.exchanges import entered, leave, path_of
from aggmw.asgi.headers import values
from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.tally import Tally
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.metrics import Colleagues, Sample, Source
from aggmw.contracts.options import check_lookup, check_type
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import ConfigurationError, Problem, fault
from aggmw.middleware.metrics.book import Book, Known, Level
from aggmw.middleware.metrics.labels import blank, is_long_running, is_read_only, labels_of
from aggmw.middleware.metrics.sharing import Figures, added, apart, packed, unpacked, without_number
from aggmw.objects.discovery import METHOD_NOT_ALLOWED

__all__ = ["Known", "Metrics", "MetricsMiddleware"]

_log = structlog.get_logger("aggmw.metrics")


class Metrics:
    """Counts requests, and answers `/metrics` with a Prometheus page. Both a `Stage` and an `Observer`.

    As a stage it stands inside authorization: whoever may `get` the path reads the page. As an observer it is told of
    every request by the outermost stage; those that never came this far (400, 401, 403) are counted without the names
    of a resource. What came this far is in flight until the observer is told that it is over, so it has to be both.

    Nobody can make label sets by asking: names of resources are shown only if they are known, and a limit bounds them.

    Args:
        known: which group, version, resource and subresource exist; by default none do, and these labels stay empty.
        sources: who has further figures.
        path: where the page is; None answers it nowhere, and `page` is served by somebody else.
        max_label_sets: so many sets of labels with names of resources; each gives up to some 65 lines of the page.
        request_info: replaces what the request_info stage leaves; None is a request of which nothing is known.

    Raises:
        ConfigurationError: prometheus-client is not installed.
        TypeError, ValueError: an option that is not what it should be.
    """

    def __init__(
        self,
        *,
        known: Known | None = None,
        sources: Iterable[Source] = (),
        path: str | None = "/metrics",
        max_label_sets: int = 1000,
        request_info: Callable[[Exchange], RequestInfo | None] | None = None,
    ) -> None:
        try:
            from aggmw.middleware.metrics.exposition import Exposition  # an extra: only here is it needed
        except ImportError as error:
            message = "needs prometheus-client: install it with: pip install 'aggmw[metrics]'"
            raise ConfigurationError([Problem("metrics", message)]) from error
        check_lookup("request_info", request_info)
        check_type("max_label_sets", max_label_sets, int)
        if path is not None and not path.startswith("/"):
            raise ValueError(f"path: {path!r} does not begin with a slash")
        self._exposition = Exposition()
        self._known: list[Known] = []
        self._sources: list[Source] = []
        self._path = path
        self._request_info = request_info
        self._book = Book(self._known, max_label_sets)
        self._colleagues: Colleagues | None = None
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self.include(known=known, sources=sources)

    def __repr__(self) -> str:
        return f"Metrics(path={self._path!r})"

    def include(self, *, known: Known | None = None, sources: Iterable[Source] = ()) -> None:
        """Also show the names that `known` knows, and the figures of `sources`; for who composes a stack."""
        if known is not None:
            self._known.append(known)
        for source in sources:
            check_type("sources", source, Source)
            if not any(source is each for each in self._sources):
                self._sources.append(source)

    def beside(self, colleagues: Colleagues) -> None:
        """Show what all workers of a server count, of which this process is one."""
        self._colleagues = colleagues

    async def decide(self, exchange: Exchange) -> Answer | None:
        """The page, or None: then the request is in flight until `ended`. The page itself is not."""
        info = self._info(exchange)
        path = path_of(exchange) if info is None else info.path
        if path == self._path and exchange.scope["type"] == "http":
            if exchange.scope["method"] not in ("GET", "HEAD"):
                return METHOD_NOT_ALLOWED
            return await self.page(b",".join(values(exchange.headers, b"accept")))
        if is_long_running(exchange, info):
            level = self._book.series(labels_of(exchange, info)).running
        elif is_read_only(exchange, info):
            level = self._book.read_only
        else:
            level = self._book.mutating
        level.value += 1
        exchange.in_flight = level
        return None

    def ended(self, exchange: Exchange, status: int, seconds: float, size: int) -> None:
        level = exchange.in_flight
        labels = labels_of(exchange, self._info(exchange))
        if isinstance(level, Level):
            level.value -= 1
            exchange.in_flight = None
        elif labels[4]:
            labels = blank(labels)  # refused: who may not ask for it opens no label set
        self._book.series(labels).add(status, seconds, size)

    async def page(self, accept: bytes = b"") -> Answer:
        """The page of this moment, for who serves it elsewhere, such as on a port of its own.

        Args:
            accept: the request's Accept field: plain text, or OpenMetrics.

        Raises:
            StatusError: 503, other workers cannot be asked.
        """
        text = accept.decode("latin-1")
        async with self._turn():  # one at a time: encoding several would keep the interpreter from the loop
            if self._colleagues is None:
                figures = self._figures()
                content_type, body = await asyncio.to_thread(self._exposition.page, text, *figures)
            else:
                own = await self.share(self._colleagues.number)
                others = await self._colleagues.figures(own)
                number = self._colleagues.number
                content_type, body = await asyncio.to_thread(self._joint_page, text, own, others, number)
        return Answer(200, ((b"content-type", content_type.encode("latin-1")),), body)

    async def share(self, number: int) -> bytes:
        """The figures of this moment, for another worker's page.

        Args:
            number: which worker this is.
        """
        return await asyncio.to_thread(self._packed, self._figures(), number)

    def _figures(self) -> Figures:
        return Figures(self._book.snapshot(), tuple(self._samples()))

    def _packed(self, figures: Figures, number: int) -> bytes:
        samples = apart([*figures.samples, *self._exposition.process()], number)
        return packed(figures._replace(samples=tuple(samples)))

    def _joint_page(self, accept: str, own: bytes, others: bytes, number: int) -> tuple[str, bytes]:
        # Who leaves while it makes the page may have a successor of the same number already.
        figures = added([unpacked(own), without_number(unpacked(others), number)])
        return self._exposition.page(accept, *figures, process=False)

    def _info(self, exchange: Exchange) -> RequestInfo | None:
        return exchange.request_info if self._request_info is None else self._request_info(exchange)

    def _samples(self) -> Iterator[Sample]:
        for source in self._sources:
            try:
                yield from list(source.samples())
            except Exception as error:  # noqa: BLE001  one that fails must not take the page from the others
                _log.error("source of metrics failed", source=type(source).__name__, **fault(error))

    def _turn(self) -> asyncio.Lock:
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


class MetricsMiddleware:
    """Metrics alone, around any ASGI application: observes it, and answers the path of the page itself.

    It asks nobody who they are: whoever reaches it reads the page, unless authorization stands outside of it. Where
    aggmw's stages are inside, their request info is used; without, labels are those of a request for no resource.

    Args:
        app: what is inside; an exception that it raises is counted as 500, unless an answer had begun, and raised.
        metrics: the stage; by default one of its own.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics | None = None) -> None:
        if metrics is not None:
            check_type("metrics", metrics, Metrics)
        self.aggmw_stages = stand("metrics", app)
        self._app = app
        self._metrics = metrics or Metrics()

    def __repr__(self) -> str:
        return f"MetricsMiddleware({self._metrics!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = await entered(scope, send)
        if exchange is None:
            return
        tally = Tally()
        noting = partial(_noting, tally, send)
        # The exchange may be shared with another metrics stage, outside or inside.
        outer, exchange.in_flight = exchange.in_flight, None
        level: object = None
        try:
            answer = await self._metrics.decide(exchange)
            level, exchange.in_flight = exchange.in_flight, None
            if answer is not None:
                await respond(scope, noting, answer)
            else:
                await self._app(leave(exchange), receive, noting)
        except Exception:
            tally.status = tally.status or 500
            raise
        finally:
            exchange.scope = scope  # not the inner one, which holds the exchange: no cycle for the collector
            exchange.in_flight = level
            self._metrics.ended(exchange, tally.status, tally.seconds, tally.size)
            exchange.in_flight = outer


async def _noting(tally: Tally, send: Send, message: Message) -> None:
    """Count a message, and send it on."""
    tally.note(message)
    await send(message)
