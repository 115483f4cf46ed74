"""One request to somebody else's server on the front proxy's own account: keys, discovery of issuers, webhooks.

No redirect is followed, no cookie kept, no proxy of the environment used, and nothing is read beyond a limit. A
connection carries one exchange.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import NamedTuple

import httpx

from aggmw.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from aggmw.net.dial import reason_of

__all__ = ["BrokenOff", "Reply", "fetch"]


class BrokenOff(UpstreamBroken):
    """The connection ended in the middle: another one may have more luck."""


class Reply(NamedTuple):
    """What was answered, whole. A status of any kind is an answer; so is a redirect."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


async def fetch(
    url: str,
    *,
    context: ssl.SSLContext | None,
    limit: int,
    timeout: float,
    method: str = "GET",
    headers: Sequence[tuple[bytes, bytes]] = (),
    content: bytes = b"",
    server_name: str = "",
) -> Reply:
    """Ask once.

    Args:
        url: `https://…`, or `http://…` where `context` is None.
        context: whom to trust, and what to show.
        limit: bytes of the answer's body.
        timeout: seconds for everything, from the name to the last byte.
        method, headers, content: of the request; Host and Content-Length are added.
        server_name: to verify instead of the URL's host; "" for that.

    Raises:
        UpstreamUnreachable: nothing was sent.
        UpstreamTimeout: no answer, or not all of it, in time.
        BrokenOff: the connection ended before the answer did.
        UpstreamBroken: no answer of HTTP, one that is too large, or one in a coding that was not asked for.
    """
    if (context is None) == url.lower().startswith("https:"):
        raise ValueError("https needs a TLS context, and http takes none")
    carrier = httpx.AsyncHTTPTransport(verify=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)
    fields = [(b"accept-encoding", b"identity"), (b"connection", b"close"), *headers]
    try:
        async with asyncio.timeout(timeout), carrier:
            request = httpx.Request(method, url, headers=fields, content=content)
            if server_name:
                request.extensions["sni_hostname"] = server_name
            answer = await carrier.handle_async_request(request)
            try:
                return Reply(answer.status_code, answer.headers.raw, await _body(answer, limit))
            finally:
                await answer.aclose()
    except TimeoutError:
        raise UpstreamTimeout("it did not answer in time") from None
    except (httpx.InvalidURL, httpx.HTTPError, UnicodeError) as error:
        raise _translated(error) from error


async def _body(answer: httpx.Response, limit: int) -> bytes:
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise UpstreamBroken("its answer is compressed, which was not asked for")
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > limit:
            raise UpstreamBroken(f"its answer is larger than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def _translated(error: Exception) -> UpstreamError:
    if isinstance(error, httpx.TimeoutException):
        return UpstreamTimeout("it did not answer in time")
    if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol | httpx.InvalidURL | UnicodeError):
        return UpstreamUnreachable(reason_of(_origin(error)))
    ended = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
    return (BrokenOff if ended else UpstreamBroken)("its answer broke off, or is none of HTTP")


def _origin(error: Exception) -> OSError:
    """What the layers below began with."""
    found = OSError()
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            found = cause
        cause = _below(cause)
    return found


def _below(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]  # one for each address
    return error.__cause__ or error.__context__
