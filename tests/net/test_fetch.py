"""One request on the front proxy's own account: what is sent, what is read, and how it fails."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from aggmw.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from aggmw.net.fetch import Reply, fetch
from aggmw.net.tls import trusting_context
from aggmw.testing import Hold, ReadHead, ScriptedBackend, Send, VirtualClock, respond


async def get(url: str, *, limit: int = 1000, timeout: float = 5.0) -> Reply:
    return await fetch(url, context=None, limit=limit, timeout=timeout)


async def test_post() -> None:
    """Method, fields and content as given; nothing else but what frames them."""
    async with ScriptedBackend(lambda request: respond(201, [("x-a", "b")], b"made")) as server:
        reply = await fetch(
            f"{server.url}/reviews?timeout=3s",
            context=None,
            limit=100,
            timeout=5.0,
            method="POST",
            headers=((b"content-type", b"application/json"),),
            content=b"{}",
        )
        assert (reply.status, reply.body) == (201, b"made")
        assert (b"x-a", b"b") in reply.headers
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        assert line == b"POST /reviews?timeout=3s HTTP/1.1"
        assert body == b"{}"
        names = {field.partition(b":")[0].lower() for field in fields}
        assert names == {b"host", b"accept-encoding", b"connection", b"content-type", b"content-length"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    """CVE-2020-8561: a redirect is an answer like any other."""
    async with ScriptedBackend(lambda request: respond(status, [("Location", f"{server.url}/else")])) as server:
        assert (await get(server.url)).status == status
        assert len(server.requests) == 1


async def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HTTP_PROXY` is somebody else's business."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with ScriptedBackend(lambda request: respond(body=b"direct")) as server:
        assert (await get(server.url)).body == b"direct"


async def test_no_cookie_is_kept() -> None:
    """One exchange knows nothing of the other."""
    async with ScriptedBackend(lambda request: respond(200, [("Set-Cookie", "a=b")])) as server:
        await get(server.url)
        await get(server.url)
        assert all(b"cookie" not in request.lower() for request in server.requests)
        assert len(server.connections) == 2


@pytest.mark.parametrize("chunked", [False, True])
async def test_limit(chunked: bool) -> None:
    """Nothing is read beyond it, however it is framed."""
    async with ScriptedBackend(lambda request: respond(200, body=b"x" * 1001, chunked=chunked)) as server:
        with pytest.raises(UpstreamBroken, match="larger than 1000 bytes"):
            await get(server.url)


async def test_deadline(clock: VirtualClock) -> None:
    """A server that sends a byte now and then does not go on for ever."""
    dripping = [ReadHead(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), Hold()]
    async with ScriptedBackend(dripping) as server:
        asking = asyncio.create_task(get(server.url))
        await server.connected()
        await clock.advance(5)
        with pytest.raises(UpstreamTimeout):
            await asking


async def test_nobody_there(unused_tcp_port: int) -> None:
    """The reason in words, without an address."""
    with pytest.raises(UpstreamUnreachable, match=r"^connection refused$"):
        await get(f"http://127.0.0.1:{unused_tcp_port}")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx"])
async def test_no_answer_of_http(answer: bytes) -> None:
    """It broke off, or speaks something else."""
    async with ScriptedBackend([ReadHead(), Send(answer)]) as server:
        with pytest.raises(UpstreamBroken):
            await get(server.url)


@pytest.mark.parametrize("url", ["https://127.0.0.1", "HTTPS://127.0.0.1"])
async def test_https_needs_a_context(url: str) -> None:
    """No secret goes out in clear, and nothing is trusted by mistake."""
    with pytest.raises(ValueError, match="TLS context"):
        await get(url)
    with pytest.raises(ValueError, match="TLS context"):
        await fetch("http://127.0.0.1", context=trusting_context(), limit=1, timeout=1.0)


def test_context() -> None:
    """The certificate and the name are checked, from TLS 1.2 up."""
    context = trusting_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    with pytest.raises(UpstreamUnreachable, match="CA bundle"):
        trusting_context(b"nonsense")
