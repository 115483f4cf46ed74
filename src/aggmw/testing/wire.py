"""A suite for transports that speak HTTP/1.1 on a socket: what goes over it, and what comes, byte for byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, ClassVar

from aggmw.contracts.backends import Backend, UpstreamRequest, UpstreamTransport
from aggmw.errors import AggmwError, StatusError, UpstreamBroken, UpstreamUnreachable
from aggmw.middleware.proxy.transports.pool import TransportLimits
from aggmw.testing.backend import ScriptedBackend
from aggmw.testing.raw import respond
from aggmw.testing.steps import Close, Hold, ReadHead, ReadRequest, Reset, Script, Send
from aggmw.testing.transports import pieces_of, whole_of

__all__ = ["WireSuite"]

_GET = UpstreamRequest(b"GET", b"/a")
_OK = b"HTTP/1.1 200 OK\r\n"


class WireSuite:
    """What a transport does with the bytes of HTTP/1.1, tried against a backend that sends what it likes.

    Attributes:
        accepts: malformed answers, by their name in `MALFORMED`, that the transport's parser reads as something whole
            and unambiguous, and why that does no harm.
    """

    accepts: ClassVar[Mapping[str, str]] = {}

    MALFORMED: ClassVar[Mapping[str, bytes]] = {
        "no HTTP": b"hello\r\n\r\n",
        "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "switching unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "length and chunks": _OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "two lengths": _OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "one length twice": _OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "no number": _OK + b"Content-Length: +2\r\n\r\nok",
        "other coding": _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "bad chunk": _OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        "name with a blank": _OK + b"X A: b\r\nContent-Length: 2\r\n\r\nok",
        "too many fields": _OK + b"X-A: b\r\n" * 201 + b"Content-Length: 2\r\n\r\nok",
        "head too long": _OK + b"X-A: " + b"b" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        "empty": b"",
        "half a head": b"HTTP/1.1 200 O",
    }

    CUT: ClassVar[Mapping[str, bytes]] = {
        "length": _OK + b"Content-Length: 9\r\n\r\nhalf",
        "chunk": _OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        "between chunks": _OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "before the last line": _OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    }

    def reaching(self, limits: TransportLimits) -> AbstractAsyncContextManager[UpstreamTransport]:
        """The transport under test; closed afterwards."""
        raise NotImplementedError

    @asynccontextmanager
    async def _site(
        self, behaviour: Script | Callable[[bytes], bytes]
    ) -> AsyncIterator[tuple[ScriptedBackend, UpstreamTransport, Backend]]:
        async with ScriptedBackend(behaviour) as scripted, self.reaching(TransportLimits()) as transport:
            yield scripted, transport, Backend.at(scripted.url, name="v1.scripted")

    async def test_bytes_of_a_request(self) -> None:
        """The target as it is, Host first, fields in order and in their spelling, the framing last."""
        target = b"/a//b/%2e%2e/%2F?x=%zz;&"
        fields = ((b"X-b", b"1"), (b"x-A", b"2"), (b"X-b", b"3"))
        async with self._site(lambda _: respond(body=b"ok")) as (scripted, transport, backend):
            requests = [
                UpstreamRequest(b"GET", target, fields),
                UpstreamRequest(b"GET", b"/?"),
                UpstreamRequest(b"POST", b"/", content_length=0),
                UpstreamRequest(b"PATCH", b"/", content=b"body"),
                UpstreamRequest(b"PUT", b"/", body=pieces_of(b"one", b"two"), content_length=6),
                UpstreamRequest(b"PUT", b"/", body=pieces_of(b"one", b"two")),
            ]
            for request in requests:
                assert await whole_of(await transport.send(backend, request)) == b"ok"
            host = b" HTTP/1.1\r\nHost: %b:%d\r\n" % (scripted.host.encode(), scripted.port)
            assert b"".join(scripted.requests) == b"".join(
                [
                    b"GET " + target + host + b"X-b: 1\r\nx-A: 2\r\nX-b: 3\r\n\r\n",
                    b"GET /?" + host + b"\r\n",
                    b"POST /" + host + b"Content-Length: 0\r\n\r\n",
                    b"PATCH /" + host + b"Content-Length: 4\r\n\r\nbody",
                    b"PUT /" + host + b"Content-Length: 6\r\n\r\nonetwo",
                    b"PUT /" + host + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
                ]
            )

    async def test_what_cannot_be_sent(self) -> None:
        """A target or a field that would bring a line or a word of its own is 400, and nothing is sent."""
        bad: list[dict[str, Any]] = [
            {"target": b"/a b"},
            {"target": b"/a\r\nX-Remote-User: root"},
            {"headers": ((b"X-A", b"1\r\nX-Remote-User: root"),)},
            {"headers": ((b"X-A\nX-B", b"1"),)},
            {"headers": ((b"X-A", b"\x00"),)},
        ]
        async with self._site(lambda _: respond()) as (scripted, transport, backend):
            for change in bad:
                error = await _raised(transport, backend, UpstreamRequest(b"GET", change.pop("target", b"/"), **change))
                assert isinstance(error, StatusError)
                assert error.code == 400
            assert b"".join(scripted.requests) == b""

    async def test_what_comes_before_an_answer(self) -> None:
        """1xx are not the answer, however many come."""
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        async with self._site(lambda _: early + respond(body=b"ok")) as (_, transport, backend):
            response = await transport.send(backend, _GET)
            assert response.status == 200
            assert not any(name == b"link" for name, _ in response.headers)
            assert await whole_of(response) == b"ok"

    async def test_malformed_answers(self) -> None:
        """What recipients may read differently is no answer, and neither is what no HTTP/1.1 is."""
        for name, answer in self.MALFORMED.items():
            async with self._site([ReadHead(), Send(answer), Close()]) as (_, transport, backend):
                error = await _raised(transport, backend, _GET, name)
                if name in self.accepts:
                    assert error is None, name
                else:
                    assert isinstance(error, UpstreamBroken), name
        assert set(self.accepts) <= set(self.MALFORMED)

    async def test_cut_answers(self) -> None:
        """A body that ends before its end, by FIN or by RST, is not whole."""
        for name, answer in self.CUT.items():
            for end in (Close(), Reset()):
                async with self._site([ReadHead(), Send(answer), end]) as (_, transport, backend):
                    assert isinstance(await _raised(transport, backend, _GET, name), UpstreamBroken), name

    async def test_answers_that_end_with_the_connection(self) -> None:
        """Without length and chunks the end of the connection is the end, unless it was broken."""
        async with self._site([ReadHead(), Send(_OK + b"\r\nall of it"), Close()]) as (_, transport, backend):
            assert await whole_of(await transport.send(backend, _GET)) == b"all of it"

    async def test_trailers_are_no_headers(self) -> None:
        """What follows a chunked body reaches nobody."""
        answer = _OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n"
        async with self._site(lambda _: answer) as (_, transport, backend):
            for _ in range(2):
                response = await transport.send(backend, _GET)
                assert await whole_of(response) == b"ok"
                assert [name for name, _ in response.headers] == [b"transfer-encoding"]

    async def test_an_answer_too_many_reaches_nobody(self) -> None:
        """Security case C5.3: what was answered beyond what was asked is not the next caller's answer."""
        two = respond(body=b"mine") + respond(body=b"poison")
        async with self._site(lambda _: two) as (_, transport, backend):
            for _ in range(5):
                with suppress(UpstreamBroken):
                    assert await whole_of(await transport.send(backend, _GET)) == b"mine"

    async def test_answers_to_head(self) -> None:
        """The answer to HEAD has no body, and what is sent as one reaches nobody."""
        answer = _OK + b"Content-Length: 4\r\n\r\nbody"
        async with self._site(lambda _: answer) as (_, transport, backend):
            for _ in range(2):
                response = await transport.send(backend, UpstreamRequest(b"HEAD", b"/"))
                assert await whole_of(response) == b""
                assert await whole_of(await transport.send(backend, _GET)) == b"body"

    async def test_nobody_there(self) -> None:
        """Nothing was sent, and the reason names no address."""
        async with self._site([ReadRequest(), Hold()]) as (scripted, transport, _):
            port = scripted.port
            await scripted.close()
            error = await _raised(transport, Backend("v1.nowhere", "127.0.0.1", port, tls=False), _GET)
            assert isinstance(error, UpstreamUnreachable)
            assert str(port) not in str(error)
            error = await _raised(transport, Backend("v1.nowhere", "nowhere.invalid", 1, tls=False), _GET)
            assert isinstance(error, UpstreamUnreachable)
            assert "nowhere" not in str(error)


async def _raised(
    transport: UpstreamTransport, backend: Backend, request: UpstreamRequest, case: str = "the request"
) -> AggmwError | None:
    """What comes of a request that should fail; None when it did not."""
    try:
        await whole_of(await transport.send(backend, request))
    except AggmwError as error:
        return error
    except Exception as error:
        raise AssertionError(f"{case}: raised {error!r}, which is none of aggmw.errors") from error
    return None
