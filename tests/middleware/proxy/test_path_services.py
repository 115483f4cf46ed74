"""Forwarding to a path service: bytes, prefixes, redirects, and what a service behind a path is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.proxy.proxying import ALICE, Before

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Headers, Receive, Scope, Send
from aggmw.contracts.backends import Backend, LocalBackend, PathService
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.errors import StatusError
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.middleware.proxy.paths import relocated, stripped
from aggmw.middleware.request_info import RequestInfoResolver
from aggmw.testing import Client, ReceivedRequest, Response, ScriptedBackend, respond


class AtPath(Before):
    """Stands for the stages in front of the proxy, the registry having found a path service."""

    def __init__(self, service: PathService) -> None:
        super().__init__(service.backend, ALICE, "id-1")
        self.service = service

    async def decide(self, exchange: Exchange) -> Answer | None:
        await super().decide(exchange)
        exchange.path_service = self.service
        exchange.request_info = None  # the real one, in place of the stand-in's
        return await RequestInfoResolver().decide(exchange)


async def core(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("forwarded to nobody")


async def forwarded(
    target: str, answer: bytes, *, path: str = "/billing/", root_path: str = "", **options: Any
) -> tuple[ReceivedRequest, Response]:
    """What a service at a path received, and what its client got."""
    async with ScriptedBackend(lambda request: answer) as server:
        transport = Http1Transport()
        service = PathService(path, f"http://{server.host}:{server.port}", **options)
        proxy = Stages(ProxyMiddleware(core, transport=transport), AtPath(service))
        client = Client(proxy, host=b"front.example:6443", scheme="https", root_path=root_path)
        response = await client.request("GET", target)
        await transport.aclose()
        (request,) = [ReceivedRequest.of(raw) for each in server.connections for raw in each.exchanges]
    return request, response


OK = respond(200, body=b"ok")


async def test_forwarded_byte_for_byte() -> None:
    """The whole path, its escapes and its query, as they were authorised."""
    request, _ = await forwarded("/billing/a%20b/%C3%A4?x=%31&x=2", OK)
    assert request.target == b"/billing/a%20b/%C3%A4?x=%31&x=2"


async def test_it_is_told_how_clients_know_it() -> None:
    """The client's Host, not the backend's: URLs that the service makes lead back to the front proxy."""
    request, _ = await forwarded("/billing/x", OK)
    assert request.header("x-forwarded-host") == b"front.example:6443"
    assert request.header("x-forwarded-proto") == b"https"
    assert request.header("x-forwarded-uri") == b"/billing/x"
    assert request.header("x-forwarded-prefix") is None
    assert request.header("x-remote-user") == b"alice"


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/billing", b"/"),
        ("/billing/", b"/"),
        ("/billing?a", b"/?a"),
        ("/billing/x?a", b"/x?a"),
    ],
)
async def test_prefix_taken_off(target: str, sent: bytes) -> None:
    """When asked for: the rest of the path is what it was, and the service is told what was cut."""
    request, _ = await forwarded(target, OK, strip_prefix=True)
    assert request.target == sent
    assert request.header("x-forwarded-prefix") == b"/billing"
    assert request.header("x-forwarded-uri") == target.partition("?")[0].encode()


async def test_prefix_of_a_mount() -> None:
    """Under a mount the service is told its path, and redirects lead below it."""
    answer = respond(302, headers={"Location": "/login"}, body=b"")
    request, response = await forwarded("/billing/x", answer, root_path="/k8s", strip_prefix=True)
    assert request.header("x-forwarded-prefix") == b"/k8s/billing"
    assert response.header("location") == b"/k8s/billing/login"


def test_a_prefix_spelt_with_escapes_is_not_cut() -> None:
    """What would be left could be read in two ways: 400."""
    with pytest.raises(StatusError) as raised:
        stripped(b"/b%69lling/x", PathService("/billing/", "http://a", strip_prefix=True))
    assert raised.value.code == 400


async def test_redirects_pass() -> None:
    """A web service redirects; one to itself leads back through the front proxy."""
    answer = respond(302, headers={"Location": "http://127.0.0.1:1/elsewhere"}, body=b"")
    _, response = await forwarded("/billing/x", answer)
    assert (response.status, response.header("location")) == (302, b"http://127.0.0.1:1/elsewhere")


async def test_redirects_refused_on_request() -> None:
    """`redirects=False` is the rule of API services."""
    answer = respond(302, headers={"Location": "/login"}, body=b"")
    _, response = await forwarded("/billing/x", answer, redirects=False)
    assert response.status == 502


async def test_who_may_read_it_is_the_services_to_say() -> None:
    """CORS headers of a web service pass; those of API servers do not."""
    _, response = await forwarded("/billing/x", respond(200, headers={"Access-Control-Allow-Origin": "https://a"}))
    assert response.header("access-control-allow-origin") == b"https://a"


BACKEND = Backend("/billing/", "10.0.0.9", 9000)


@pytest.mark.parametrize(
    ("location", "prefix", "expected"),
    [
        (b"https://10.0.0.9:9000/x?y#z", b"", b"/x?y#z"),
        (b"http://10.0.0.9:9000", b"/p", b"/p/"),
        (b"HTTPS://10.0.0.9:9000/x", b"/p", b"/p/x"),
        (b"https://10.0.0.9:9000?q", b"/p", b"/p/?q"),
        (b"https://10.0.0.9:90001/x", b"/p", b"https://10.0.0.9:90001/x"),
        (b"https://10.0.0.9:9000.evil.example/x", b"/p", b"https://10.0.0.9:9000.evil.example/x"),
        (b"https://10.0.0.9:9000@evil.example/x", b"/p", b"https://10.0.0.9:9000@evil.example/x"),
        (b"https://elsewhere.example/x", b"/p", b"https://elsewhere.example/x"),
        (b"/x", b"/p", b"/p/x"),
        (b"/x", b"", b"/x"),
        (b"x/y", b"/p", b"x/y"),
        (b"../x", b"/p", b"../x"),
        (b"//elsewhere.example/x", b"/p", b"//elsewhere.example/x"),
        (b"", b"/p", b""),
    ],
)
def test_where_redirects_lead(location: bytes, prefix: bytes, expected: bytes) -> None:
    """The backend's own address is taken off, and its paths are put below the prefix; all else is left alone."""
    headers: Headers = ((b"location", location), (b"x", location))
    assert relocated(headers, BACKEND, prefix) == ((b"location", expected), (b"x", location))


@given(st.binary(max_size=30), st.sampled_from([b"", b"/p"]))
def test_a_redirect_of_an_application_never_leaves_by_the_prefix(location: bytes, prefix: bytes) -> None:
    """Only a path of its own is put below the prefix: nothing becomes another host by it."""
    (_, value), = relocated(((b"location", location),), LocalBackend("/p/", core), prefix)  # fmt: skip
    if value != location:
        assert value == prefix + location
        assert value.startswith(b"/p/")
        assert location[1:2] not in (b"/", b"\\")


async def test_a_server_that_is_not_there() -> None:
    """The 503 names the path service, not an APIService."""
    service = PathService("/billing/", "http://127.0.0.1:1")
    transport = Http1Transport()
    proxy = Stages(ProxyMiddleware(core, transport=transport), AtPath(service))
    response = await Client(proxy, host=b"front.example").request("GET", "/billing/1")
    await transport.aclose()
    assert response.status == 503
    assert response.json()["message"] == "the server of path service /billing/ cannot be reached: connection refused"
