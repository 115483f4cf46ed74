"""Impersonating towards a Kubernetes API server: what it is told, and that nobody else's word or token gets there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.middleware.proxy.proxying import parsed
from tests.net.reading import read_through

from aggmw import APIService, Backend, BalancedBackend, FrontProxy, Identity, PathService
from aggmw.asgi.headers import fold
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.authorization import Outcome, Verdict
from aggmw.contracts.impersonation import Impersonate
from aggmw.errors import ConfigurationError, StatusError
from aggmw.middleware.authentication import Anonymous, StaticTokens
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.impersonation.headers import read_wanted
from aggmw.middleware.proxy import ProxyMiddleware
from aggmw.middleware.proxy.impersonating import ImpersonationFields, write_impersonation
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

EXTRA = {"scopes": ("read", "write"), "example.com/a b": ("c",)}
ALICE = Identity("alice", "uid-1", ("dev", "ops", "system:authenticated"), EXTRA)
TOKENS = StaticTokens({"t0k": ALICE})
TOKEN = {"Authorization": "Bearer t0k"}


async def core(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("forwarded to nobody")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("of-the-proxy\n")
    return file


async def forwarded(impersonate: Impersonate, headers: Any = TOKEN, **options: Any) -> ReceivedRequest:
    """What the server of a path service received."""
    async with ScriptedBackend(lambda request: respond(200)) as server:
        url = f"http://{server.host}:{server.port}"
        service = PathService("/clusters/one/", url, strip_prefix=True, impersonation=impersonate)
        proxy = FrontProxy(authentication=[TOKENS], authorization=AllowAll(), services=[service], **options)
        async with proxy:
            response = await Client(proxy).request("GET", "/clusters/one/api/v1/pods?limit=5", headers)
        assert response.status == 200
        return ReceivedRequest.of(server.requests[0])


def speaking(request: ReceivedRequest) -> list[tuple[bytes, bytes]]:
    """The fields that say who asks, folded as a careless receiver would."""
    words = (b"impersonate-", b"x-remote-", b"authorization")
    return [(name.lower(), value) for name, value in request.headers if fold(name).startswith(words)]


async def test_who_is_told(token_file: Path) -> None:
    """The caller by `Impersonate-*`, the front proxy by its token, and nothing by `X-Remote-*`."""
    request = await forwarded(Impersonate(token_file))
    assert request.target == b"/api/v1/pods?limit=5"
    assert speaking(request) == [
        (b"impersonate-user", b"alice"),
        (b"impersonate-group", b"dev"),
        (b"impersonate-group", b"ops"),
        (b"authorization", b"Bearer of-the-proxy"),
    ]


async def test_uid_and_extra_are_sent_when_asked_for(token_file: Path) -> None:
    """Each needs a right of its own, so each is asked for."""
    request = await forwarded(Impersonate(token_file, uid=True, extra=("example.com/a b", "scopes", "other")))
    assert speaking(request)[1:2] + speaking(request)[4:7] == [
        (b"impersonate-uid", b"uid-1"),
        (b"impersonate-extra-example.com%2fa%20b", b"c"),
        (b"impersonate-extra-scopes", b"read"),
        (b"impersonate-extra-scopes", b"write"),
    ]


async def test_certificate_alone() -> None:
    """Without a token file the transport's certificate is what the front proxy is known by."""
    assert b"authorization" not in dict(speaking(await forwarded(Impersonate())))


async def test_anonymous_caller(token_file: Path) -> None:
    """Whoever is let in without credentials is nobody there, too: never the front proxy itself."""
    request = await forwarded(Impersonate(token_file), {}, anonymous=Anonymous.everywhere())
    assert speaking(request) == [
        (b"impersonate-user", b"system:anonymous"),
        (b"authorization", b"Bearer of-the-proxy"),
    ]


async def test_caller_that_impersonates(token_file: Path) -> None:
    """Whom the caller acts as here is whom the server is told."""
    headers = {**TOKEN, "Impersonate-User": "bob"}
    request = await forwarded(Impersonate(token_file), headers, impersonation=True)
    assert dict(speaking(request))[b"impersonate-user"] == b"bob"


@pytest.mark.parametrize("name", ["Impersonate_User", "impersonate.group", "X-Remote-User", "IMPERSONATE-UID"])
async def test_nothing_of_the_client_arrives(token_file: Path, name: str) -> None:
    """No spelling of a client's field gets past: such a request is refused, or the field is gone."""
    async with ScriptedBackend(lambda request: respond(200)) as server:
        service = PathService("/c/", f"http://{server.host}:{server.port}", impersonation=Impersonate(token_file))
        proxy = FrontProxy(authentication=[TOKENS], authorization=AllowAll(), services=[service])
        async with proxy:
            await Client(proxy).request("GET", "/c/x", {**TOKEN, name: "root"})
        assert all(b"root" not in value for raw in server.requests for _, value in ReceivedRequest.of(raw).headers)


async def test_other_services_are_told_as_ever(token_file: Path) -> None:
    """The token goes to the service that it is for, and to no other."""
    async with (
        ScriptedBackend(lambda request: respond(200)) as one,
        ScriptedBackend(lambda request: respond(200)) as two,
    ):
        services = [
            PathService("/one/", f"http://{one.host}:{one.port}", impersonation=Impersonate(token_file)),
            PathService("/two/", f"http://{two.host}:{two.port}"),
        ]
        proxy = FrontProxy(authentication=[TOKENS], authorization=AllowAll(), services=services)
        async with proxy:
            for path in ("/one/", "/two/"):
                await Client(proxy).request("GET", path, TOKEN)
        told = dict(speaking(ReceivedRequest.of(two.requests[0])))
        assert told[b"x-remote-user"] == b"alice"
        assert not {b"authorization", b"impersonate-user"} & set(told)


async def test_alone(token_file: Path) -> None:
    """ProxyMiddleware alone, before one server that is named."""
    async with ScriptedBackend(lambda request: respond(200)) as server:
        backend = Backend.at(f"http://{server.host}:{server.port}")
        who: list[Identity | None] = [ALICE, None]
        for anonymous in (False, True):
            proxy = ProxyMiddleware(
                core,
                backend=backend,
                request_info=parsed,
                identity=lambda exchange: who.pop(0),
                anonymous=anonymous,
                verdict=lambda exchange: Verdict(Outcome.ALLOW),
                impersonation=Impersonate(token_file),
            )
            response = await Client(proxy).request("GET", "/api")
            await proxy._transport.aclose()
            if anonymous:
                assert response.status == 500
                assert "proxy needs an identity" in response.json()["message"]
        assert len(server.requests) == 1


def test_token_goes_to_a_named_server_only() -> None:
    """No token to an address that the registry or a function found, nor where somebody could read it."""
    acts = Impersonate(Path("token"))
    with pytest.raises(TypeError, match="impersonation needs backend=Backend"):
        ProxyMiddleware(core, impersonation=acts)
    with pytest.raises(TypeError, match="impersonation needs backend=Backend"):
        ProxyMiddleware(core, backend=lambda exchange: None, impersonation=acts)
    with pytest.raises(ConfigurationError, match="only over TLS"):
        ProxyMiddleware(core, backend=Backend.at("http://10.0.0.1"), impersonation=acts)
    with pytest.raises(TypeError, match="an application in this process is told who asks"):
        PathService("/c/", app=core, impersonation=acts)


GROUP = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1", "resources": []}


async def asked(impersonate: Impersonate) -> list[ReceivedRequest]:
    """What the server of a group version received for its discovery, and then for alice's request."""
    body = json.dumps(GROUP).encode()
    received: list[ReceivedRequest] = []

    def answer(request: bytes) -> bytes:
        received.append(ReceivedRequest.of(bytes(request)))
        return respond(200, {"Content-Type": "application/json"}, body)

    async with ScriptedBackend(answer) as server:
        service = APIService.remote("wardle.example.com", "v1", server.url, impersonation=impersonate)
        proxy = FrontProxy(authentication=[TOKENS], authorization=AllowAll(), services=[service])
        async with proxy:
            client = Client(proxy)
            while (await client.request("GET", "/apis/wardle.example.com/v1", TOKEN)).status == 503:
                await asyncio.sleep(0.01)
            for path in ("/apis/wardle.example.com/v1/flunders", "/openapi/v3/apis/wardle.example.com/v1"):
                await client.request("GET", path, TOKEN)
    return received


async def test_api_service(token_file: Path) -> None:
    """A group version of such a server: callers by `Impersonate-*`; for discovery the front proxy asks as itself."""
    received = await asked(Impersonate(token_file, uid=True))
    (flunders,) = [each for each in received if each.target.endswith(b"/flunders")]
    assert speaking(flunders) == [
        (b"impersonate-user", b"alice"),
        (b"impersonate-uid", b"uid-1"),
        (b"impersonate-group", b"dev"),
        (b"impersonate-group", b"ops"),
        (b"authorization", b"Bearer of-the-proxy"),
    ]
    others = [each for each in received if each is not flunders]
    assert {each.target.partition(b"?")[0] for each in others} >= {b"/apis", b"/openapi/v3"}
    for each in others:
        fields = speaking(each)
        assert fields[-1] == (b"authorization", b"Bearer of-the-proxy")
        assert fields[:-1] == [] or fields[0] == (b"impersonate-user", b"alice")
    for each in await asked(Impersonate()):
        assert not [name for name, _ in speaking(each) if name != b"impersonate-user" and name != b"impersonate-group"]


async def test_discovery_without_a_token(tmp_path: Path) -> None:
    """Where there is no token yet the server is not asked at all, least of all as an aggregator."""
    async with ScriptedBackend(lambda request: respond(200)) as server:
        service = APIService.remote(
            "wardle.example.com", "v1", server.url, impersonation=Impersonate(tmp_path / "none")
        )
        proxy = FrontProxy(authentication=[TOKENS], authorization=AllowAll(), services=[service])
        with capture_logs() as log:
            async with proxy:
                while not proxy.ready:
                    await asyncio.sleep(0.01)
                response = await Client(proxy).request("GET", "/apis/wardle.example.com/v1", TOKEN)
        assert "the front proxy has no token for this service" in response.json()["message"]
        assert any(line["event"] == "token file cannot be read" for line in log)
        assert server.requests == []


def test_api_services_that_cannot_be(token_file: Path) -> None:
    """No token in clear to another machine, and nobody impersonates to an application in this process."""
    with pytest.raises(ConfigurationError, match=r"v1\.a\.example: a bearer token is sent only over TLS"):
        APIService.remote("a.example", "v1", "http://10.0.0.1", impersonation=Impersonate(token_file))
    with pytest.raises(TypeError, match="told who asks as it is"):
        APIService("a.example", "v1", impersonation=Impersonate(token_file))
    one = APIService.remote("a.example", "v1", "https://10.0.0.1", impersonation=Impersonate(token_file)).backend
    assert isinstance(one, Backend)
    assert not one.shows_certificate


@pytest.mark.parametrize(
    ("url", "options"),
    [("http://10.0.0.1:80", {}), ("https://10.0.0.1", {"insecure_skip_tls_verify": True}), ("http://api", {})],
)
def test_token_needs_a_verified_server(url: str, options: dict[str, Any]) -> None:
    """Plain HTTP to another machine, and TLS that verifies nothing, are refused when the service is made."""
    with pytest.raises(ConfigurationError, match="a bearer token is sent only over TLS"):
        PathService("/c/", url, impersonation=Impersonate(Path("token")), **options)
    PathService("/c/", url, impersonation=Impersonate(), **options)


def test_token_is_read_again(tmp_path: Path) -> None:
    """Who replaces the file need not restart; a file that is gone or broken leaves the last token in place."""
    now = 0.0
    file = tmp_path / "token"
    fields = ImpersonationFields(lambda: now)
    acts = Impersonate(file)
    with pytest.raises(StatusError, match="no token for this service") as caught, capture_logs() as log:
        fields.of(ALICE, acts)
    assert (caught.value.code, log[0]["event"]) == (503, "token file cannot be read")
    for text, expected in [("a\n", b"a"), ("b", b"b"), ("c d", b"b"), ("\xff", b"b"), ("e\r\n", b"e")]:
        file.write_text(text, "latin-1")
        now += 10.0
        with capture_logs() as log:
            fields.of(ALICE, acts)
            read_through(file)
            assert fields.of(ALICE, acts)[-1] == (b"Authorization", b"Bearer " + expected)
        assert text not in str(log)
    file.unlink()
    now += 5.0
    assert fields.of(ALICE, acts)[-1][1] == b"Bearer e"


def test_reading_does_not_hold_the_loop() -> None:
    """The file is looked at once in ten seconds, not for every request."""
    reads = 0

    class Counted(type(Path())):  # type: ignore[misc]  # a path of this platform
        def read_text(self, *args: Any) -> str:
            nonlocal reads
            reads += 1
            return "t"

    fields = ImpersonationFields(lambda: 0.0)
    for _ in range(100):
        fields.of(ALICE, Impersonate(Counted("token")))
    assert reads == 1


TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs", "Zs", "Zl"]), min_size=1
)
KEY = TEXT.map(str.lower).filter(lambda key: key == key.lower())


@given(TEXT, st.lists(TEXT, max_size=3), TEXT, st.dictionaries(KEY, st.lists(TEXT, min_size=1, max_size=2), max_size=3))
def test_server_reads_what_was_meant(user: str, groups: list[str], uid: str, extra: dict[str, list[str]]) -> None:
    """Whatever a caller is called: who reads the fields finds that caller, and no field more."""
    identity = Identity(user, uid, tuple(groups), extra)
    fields = write_impersonation(identity, Impersonate(uid=True, extra=tuple(extra)))
    wanted = read_wanted(tuple([(name.lower(), value) for name, value in fields]))
    kept = tuple([group for group in groups if group != "system:authenticated"])
    assert wanted == (user, uid, kept, {key: tuple(values) for key, values in extra.items()})


def test_token_in_place_of_the_certificate() -> None:
    """Where a token says who the front proxy is, its certificate is not shown: the server need not know the CA."""
    urls = ["https://10.0.0.1", "https://10.0.0.2"]
    one = PathService("/c/", urls[0], impersonation=Impersonate(Path("token"))).backend
    two = PathService("/c/", urls, impersonation=Impersonate(Path("token"))).backend
    assert isinstance(one, Backend)
    assert isinstance(two, BalancedBackend)
    assert not any(each.shows_certificate for each in (one, *two.endpoints))
    certain = PathService("/c/", urls[0], impersonation=Impersonate()).backend
    assert isinstance(certain, Backend)
    assert certain.shows_certificate
    assert hash(certain) != hash(one)
