"""Keys of issuers: which are taken, and when they are read again (security cases C3)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.middleware.authentication.issuing import (
    NOW,
    URL,
    Published,
    claims,
    issuer,
    jwks,
    key,
    presenting,
    signed,
    token,
    write_keys,
)

from aggmw import FrontProxy
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidCredentials, NotOpened, UpstreamError, UpstreamUnreachable
from aggmw.middleware.authentication import (
    AuthenticationMiddleware,
    AuthenticatorUnion,
    JWTAuthenticator,
    TokenCache,
    TokenCookie,
)
from aggmw.middleware.authentication.jose import MAX_KEYS, BadKeys, VerificationKeys, parse_jwks
from aggmw.middleware.authentication.jwks import IssuerKeys, check_url, discovered
from aggmw.middleware.authorization import AllowAll
from aggmw.pki.make import issue_server, make_ca
from aggmw.testing import Client, ScriptedBackend, VirtualClock, respond

INTERVAL, REFRESH, RETRY = 2.0, 300.0, 10.0


def public(name: str, kind: str = "P-256", **others: Any) -> dict[str, Any]:
    """A key as an issuer publishes it, but for what is said; None takes a member away."""
    members: dict[str, Any] = dict(key(name, kind).as_dict(private=False)) | others
    return {member: value for member, value in members.items() if value is not None}


UNUSABLE = {
    "symmetric": {"kty": "oct", "kid": "s", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"},
    "symmetric, called RSA": {"kty": "RSA", "kid": "s", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"},
    "private": dict(key("private").as_dict(private=True)),
    "private RSA": dict(key("private-rsa", "2048").as_dict(private=True)),
    "for encryption": public("e", use="enc"),
    "for signing only": public("e", key_ops=["sign"]),
    "operations that are none": public("e", key_ops="verify"),
    "of another algorithm": public("e", alg="ES512"),
    "for HMAC": public("e", "2048", alg="HS256"),
    "of no algorithm": public("e", alg=["ES256"]),
    "of an unknown kind": {"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA"},
    "of no kind": public("e", kty=None),
    "of a kind that is no text": public("e", kty=["EC"]),
    "of another curve": dict(key("k", "secp256k1").as_dict(private=False)),
    "of a curve for agreement": {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
    "not on its curve": public("e", y=public("f")["x"]),
    "without a coordinate": public("e", y=None),
    "not in base64": public("e", x="!!"),
    "RSA of 1024 bits": public("e", "2048", n=public("e", "2048")["n"][:171]),
    "RSA with a huge exponent": public("e", "2048", e=public("e", "2048")["n"]),
    "RSA that is nothing": {"kty": "RSA", "kid": "x", "n": "A" * 342, "e": "AQAB"},
    "with a name that is none": public("e", kid=5),
    "with a long name": public("e", kid="x" * 1025),
    "no object": "text",
    "null": None,
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_keys_that_are_left_out(name: str) -> None:
    """A key that is of no use here, or not safe, does not hide the others of its set."""
    document = json.dumps({"keys": [UNUSABLE[name], public("good")]}).encode()
    keys = parse_jwks(document)
    assert [each.kid for each in keys.keys] == ["good"]
    assert keys.dropped == 1


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"", "it is not JSON"),
        (b"<html>", "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b"{}", "it has no list of keys"),
        (b'{"keys": {}}', "it has no list of keys"),
        (b'{"keys": []}', "no key that can be used"),
        (b'{"keys": [], "keys": []}', "a member twice"),
        (b"\xff", "not UTF-8"),
        (json.dumps({"keys": [UNUSABLE["symmetric"]]}).encode(), "no key that can be used"),
        (json.dumps({"keys": [public("a")] * (MAX_KEYS + 1)}).encode(), f"more than {MAX_KEYS}"),
        (b'{"keys": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_key_set(document: bytes, complaint: str) -> None:
    """Each is refused in words."""
    with pytest.raises(BadKeys, match=complaint):
        parse_jwks(document)


def test_declared_algorithm() -> None:
    """A key that its owner keeps for one algorithm verifies no other."""
    (only,) = parse_jwks(jwks(public("rsa", "2048", alg="PS256"))).keys
    assert only.algorithms == {"PS256"}


# When they are read


@asynccontextmanager
async def renewing(published: Published) -> AsyncIterator[IssuerKeys]:
    """Keys whose background work runs."""
    keys = IssuerKeys(URL, published, refresh=REFRESH, retry=RETRY, least_interval=INTERVAL)
    keys.open()
    running = asyncio.create_task(keys.run())
    try:
        yield keys
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_regular_reading(clock: VirtualClock) -> None:
    """Every five minutes; the same document is no change."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.settle()
        first = keys.keys
        assert first is not None
        await clock.advance(REFRESH - 1)
        assert published.reads == 1
        await clock.advance(2)
        assert published.reads == 2
        assert keys.keys is first
        published.document = jwks(key("two"))
        await clock.advance(REFRESH)
        assert [each.kid for each in kept(keys).keys] == ["two"]


def kept(keys: IssuerKeys) -> VerificationKeys:
    assert keys.keys is not None
    return keys.keys


async def test_issuer_down_and_back(clock: VirtualClock) -> None:
    """What was read last stays for as long as nothing better can be had; it is tried again every ten seconds."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.settle()
        good = kept(keys)
        published.error = UpstreamUnreachable("connection refused")
        with structlog.testing.capture_logs() as logs:
            await clock.advance(REFRESH)
            assert published.reads == 2
            await clock.advance(3 * RETRY)
        assert published.reads == 5
        assert keys.keys is good
        said = [line for line in logs if line["log_level"] == "warning"]
        assert [(line["cause"], line["have_keys"]) for line in said] == [("connection refused", True)]
        published.error, published.document = None, jwks(key("two"))
        await clock.advance(RETRY)
        assert [each.kid for each in kept(keys).keys] == ["two"]


@pytest.mark.parametrize("document", [b"<html>busy</html>", b'{"keys": []}', b"{}"])
async def test_bad_set_keeps_the_last_good_one(clock: VirtualClock, document: bytes) -> None:
    """A page of a terminator, or an empty set, takes nobody's keys away."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.settle()
        good = kept(keys)
        published.document = document
        await clock.advance(REFRESH + RETRY)
        assert keys.keys is good


async def test_fault_of_our_own_ends_nothing(clock: VirtualClock) -> None:
    """Whatever goes wrong in one reading, there is a next one."""
    published = Published(key("one"))
    published.error = RuntimeError("a secret of ours")
    async with renewing(published) as keys:
        with structlog.testing.capture_logs() as logs:
            await clock.advance(1)
        assert keys.keys is None
        assert "a secret" not in str(logs)
        published.error = None
        await clock.advance(RETRY)
        assert keys.keys is not None


async def test_one_reading_for_all_who_wait(clock: VirtualClock) -> None:
    """Single flight: a hundred requests with an unknown key are one question to the issuer."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.advance(10)
        seen = kept(keys)
        published.document = jwks(key("two"))
        waiting = [asyncio.create_task(keys.renewed(seen)) for _ in range(100)]
        await clock.settle()
        assert await asyncio.gather(*waiting) == [True] * 100
        assert published.reads == 2


async def test_flood_of_unknown_keys(clock: VirtualClock) -> None:
    """P8: however many bad tokens come, an issuer is asked at most once in an interval."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.settle()
        waiting: list[asyncio.Task[bool]] = []
        for _ in range(100):
            waiting += [asyncio.create_task(keys.renewed(kept(keys))) for _ in range(20)]
            await clock.advance(0.2)
        assert published.reads <= 1 + 20 / INTERVAL
        await clock.advance(INTERVAL * 2)
        assert not any(await asyncio.gather(*waiting))


async def test_too_many_wait_for_nothing(clock: VirtualClock) -> None:
    """The number of requests that wait is bounded: the others are answered at once."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.settle()
        waiting = [asyncio.create_task(keys.renewed(kept(keys))) for _ in range(300)]
        await clock.settle()
        assert sum(task.done() for task in waiting) == 300 - 256
        await clock.advance(INTERVAL * 2)
        assert not any(await asyncio.gather(*waiting))


async def test_reading_that_began_before_does_not_count(clock: VirtualClock) -> None:
    """Who wants newer keys than those that a reading under way may bring waits for the next one."""
    published = Published(key("one"))
    release = asyncio.Event()
    async with renewing(published) as keys:
        await clock.advance(REFRESH - 1)
        published.hold = held(release)
        await clock.advance(1)
        assert published.reads == 2
        published.document = jwks(key("two"))
        wanting = asyncio.create_task(keys.renewed(kept(keys)))
        await clock.settle()
        release.set()
        await clock.settle()
        assert not wanting.done()
        await clock.advance(INTERVAL)
        assert await wanting
        assert published.reads == 3


def held(release: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await release.wait()

    return wait


async def test_patience(clock: VirtualClock) -> None:
    """An issuer that does not answer holds a request up for ten seconds, not for ever."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.settle()
        published.hold = held(asyncio.Event())
        wanting = asyncio.create_task(keys.renewed(kept(keys)))
        await clock.advance(9.9)
        assert not wanting.done()
        await clock.advance(0.2)
        assert await wanting is False


async def test_end_wakes_who_waits(clock: VirtualClock) -> None:
    """When the background work ends, nobody waits for it."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.settle()
        wanting = asyncio.create_task(keys.renewed(kept(keys)))
        await clock.settle()
    assert await wanting is False
    with pytest.raises(NotOpened):
        await keys.renewed(keys.keys)


async def test_request_that_leaves_ends_no_reading(clock: VirtualClock) -> None:
    """The reading is the background's: who wanted it may go."""
    published = Published(key("one"))
    async with renewing(published) as keys:
        await clock.advance(10)
        published.document = jwks(key("two"))
        wanting = asyncio.create_task(keys.renewed(kept(keys)))
        await asyncio.sleep(0)
        wanting.cancel()
        await clock.settle()
        assert [each.kid for each in kept(keys).keys] == ["two"]


def test_file_on_a_disk_that_hangs(tmp_path: Path) -> None:
    """A server that was told to stop ends all the same."""
    os.mkfifo(tmp_path / "keys.json")  # reading it ends when somebody has written
    code = """
import asyncio
from pathlib import Path
from aggmw.middleware.authentication.jwks import from_file
async def main():
    asyncio.get_running_loop().create_task(from_file(Path("keys.json"))())
    await asyncio.sleep(0.01)
asyncio.run(main())
print("over")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("over\n", "")


# Through an authenticator


async def test_rotation(clock: VirtualClock, tmp_path: Path) -> None:
    """A token of a new key is good at once, one of a key that is gone no more; neither waits for the next reading."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW, least_interval=0.0) as authenticator:
        assert await authenticator.authenticate(presenting(token(key("one"))))
        write_keys(path, key("two"))
        assert await authenticator.authenticate(presenting(token(key("two"))))
        with pytest.raises(InvalidCredentials, match="by no key"):
            await authenticator.authenticate(presenting(token(key("one"))))


async def test_new_key_of_the_same_name(tmp_path: Path) -> None:
    """A bad signature, too, has the keys read once more: an issuer may use a name twice."""
    path = write_keys(tmp_path / "keys.json", key("same"))
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW, least_interval=0.0) as authenticator:
        assert await authenticator.authenticate(presenting(token(key("same"))))
        write_keys(path, key("same", "2048"))
        later = signed(claims(), key("same", "2048"), "RS256")
        assert await authenticator.authenticate(presenting(later))


async def test_keys_change_the_revision(tmp_path: Path) -> None:
    """What was remembered of tokens does not outlive the keys that it rests on."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW, least_interval=0.0) as authenticator:
        await authenticator.authenticate(presenting(token()))
        before = authenticator.revision
        await authenticator.authenticate(presenting(token()))
        assert authenticator.revision is before
        write_keys(path, key("one"), key("two"))
        await authenticator.authenticate(presenting(token(key("two"))))
        assert authenticator.revision is not before


async def test_not_initialised(tmp_path: Path) -> None:
    """Until its keys were read once, an issuer's tokens are an error, nobody's and never an anonymous caller's."""
    missing = issuer(keys=tmp_path / "none.json")
    async with JWTAuthenticator([missing], clock=lambda: NOW, least_interval=0.0) as authenticator:
        with pytest.raises(UpstreamUnreachable):
            await authenticator.authenticate(presenting(token()))


async def test_not_opened(tmp_path: Path) -> None:
    """Without its background work it says so, and does not refuse as if the token were bad."""
    authenticator = JWTAuthenticator([issuer(keys=tmp_path / "none.json")], clock=lambda: NOW)
    with pytest.raises(NotOpened):
        await authenticator.authenticate(presenting(token()))


async def test_one_issuer_down(tmp_path: Path) -> None:
    """An issuer without keys does not touch another one."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    others = [issuer(url="https://down.example", keys=tmp_path / "none.json"), issuer(keys=path)]
    async with JWTAuthenticator(others, clock=lambda: NOW, least_interval=0.0) as authenticator:
        assert await authenticator.authenticate(presenting(token()))
        with pytest.raises(UpstreamUnreachable):
            await authenticator.authenticate(presenting(token(iss="https://down.example")))


async def test_key_of_another_issuer(tmp_path: Path) -> None:
    """A key counts for its own issuer only, whatever it is called."""
    mine, other = tmp_path / "mine.json", tmp_path / "other.json"
    both = [
        issuer(keys=write_keys(mine, key("one"))),
        issuer(url="https://other.example", keys=write_keys(other, key("one", "P-384"))),
    ]
    async with JWTAuthenticator(both, clock=lambda: NOW, least_interval=0.0) as authenticator:
        assert await authenticator.authenticate(presenting(token()))
        with pytest.raises(InvalidCredentials, match="by no key"):
            await authenticator.authenticate(presenting(token(iss="https://other.example")))


async def test_reload(tmp_path: Path) -> None:
    """Other issuers, while it runs: the keys of those that stay are kept, and the others' are read."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW, least_interval=0.0) as authenticator:
        assert await authenticator.authenticate(presenting(token()))
        before = authenticator.revision
        path.unlink()
        other = issuer(url="https://other.example", keys=write_keys(tmp_path / "other.json", key("two")))
        authenticator.reload([issuer(keys=path, audiences=("aggmw", "more")), other])
        assert authenticator.revision is not before
        assert await authenticator.authenticate(presenting(token(aud="more")))
        assert await authenticator.authenticate(presenting(token(key("two"), iss="https://other.example")))
        authenticator.reload([other])
        with pytest.raises(InvalidCredentials, match="no issuer"):
            await authenticator.authenticate(presenting(token()))


# Discovery

Answers = dict[str, tuple[int, Any] | bytes]


def server_of(answers: Answers, context: Any = None) -> ScriptedBackend:
    """Answers each path with a status and a document, or with bytes."""

    def answer(request: bytes) -> bytes:
        path = request.split(b" ", 2)[1].decode()
        found = answers.get(path, (404, {}))
        if isinstance(found, bytes):
            return found
        status, document = found
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return respond(status, body=body)

    return ScriptedBackend(answer, context)


async def test_discovery() -> None:
    """The document where the issuer's identifier tells, and the keys where the document tells."""
    answers: Answers = {"/keys": (200, jwks(key("one")))}
    async with server_of(answers) as server:
        answers["/.well-known/openid-configuration"] = 200, {"issuer": server.url, "jwks_uri": f"{server.url}/keys"}
        assert await discovered(server.url, loopback_http=True)() == jwks(key("one"))
        first = server.requests[0].lower()
        assert first.startswith(b"get /.well-known/openid-configuration http/1.1\r\n")
        assert b"authorization" not in first
        assert b"cookie" not in first


@pytest.mark.parametrize(
    ("path", "discovery", "asked"),
    [
        ("", "", "/.well-known/openid-configuration"),
        ("/tenant", "", "/tenant/.well-known/openid-configuration"),
        ("/tenant/", "", "/tenant/.well-known/openid-configuration"),
        ("", "/inner/discovery", "/inner/discovery"),
        ("/tenant", "/inner/discovery", "/inner/discovery"),
        ("/tenant/", "/inner/discovery", "/inner/discovery"),
    ],
)
async def test_discovery_url(path: str, discovery: str, asked: str) -> None:
    """Paths of the issuer and of the discovery URL, with and without a slash at the end."""
    answers: Answers = {"/keys": (200, jwks(key("one")))}
    async with server_of(answers) as server:
        name = f"{server.url}{path}"
        answers[asked] = 200, {"issuer": name, "jwks_uri": f"{server.url}/keys"}
        where = f"{server.url}{discovery}" if discovery else ""
        assert await discovered(name, discovery_url=where, loopback_http=True)() == jwks(key("one"))


BAD_ANSWERS: dict[str, tuple[Any, str]] = {
    "not found": ((404, {}), "the discovery document: it was answered with status 404"),
    "error": ((500, {}), "status 500"),
    "redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
        "answered with status 302",
    ),
    "another issuer": ((200, {"issuer": "https://evil.example", "jwks_uri": "SELF/keys"}), "of another issuer"),
    "issuer with a slash": ((200, {"issuer": "SELF/", "jwks_uri": "SELF/keys"}), "of another issuer"),
    "no issuer": ((200, {"jwks_uri": "SELF/keys"}), "of another issuer"),
    "no keys": ((200, {"issuer": "SELF"}), "does not say where the keys are"),
    "keys that are no text": ((200, {"issuer": "SELF", "jwks_uri": ["SELF/keys"]}), "does not say where the keys are"),
    "keys elsewhere without TLS": (
        (200, {"issuer": "SELF", "jwks_uri": "http://198.51.100.1/keys"}),
        "must begin with https://",
    ),
    "keys in a file": (
        (200, {"issuer": "SELF", "jwks_uri": "file:///etc/passwd"}),
        "is no URL|must begin with https://",
    ),
    "page": ((200, b"<html>"), "it is not JSON"),
    "large": ((200, b"x" * 600_000), "larger than"),
    "compressed": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        "compressed",
    ),
    "nonsense": (b"SSH-2.0-OpenSSH\r\n\r\n", "none of HTTP"),
    "half": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nx", "broke off"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_bad_discovery(name: str) -> None:
    """What is not as it should be is refused in words; no redirect is followed, and nothing is read without end."""
    answers: Answers = {"/keys": (200, jwks(key("one")))}
    async with server_of(answers) as server:
        answer, complaint = BAD_ANSWERS[name]
        if isinstance(answer, tuple) and isinstance(answer[1], dict):
            answer = json.loads(json.dumps(answer).replace("SELF", server.url))
        answers["/.well-known/openid-configuration"] = tuple(answer) if isinstance(answer, list) else answer
        with pytest.raises((BadKeys, UpstreamError), match=complaint):
            await discovered(server.url, loopback_http=True)()
        assert len(server.requests) == 1


async def test_bad_status_of_keys() -> None:
    """The key set is answered with an error."""
    answers: Answers = {"/keys": (503, {})}
    async with server_of(answers) as server:
        answers["/.well-known/openid-configuration"] = 200, {"issuer": server.url, "jwks_uri": f"{server.url}/keys"}
        with pytest.raises(UpstreamError, match="the key set: it was answered with status 503"):
            await discovered(server.url, loopback_http=True)()


async def test_tls(tmp_path: Path) -> None:
    """The CA that is configured, and no other, vouches for an issuer, under the name in its URL."""
    import ssl

    ca = make_ca("issuers")
    made = issue_server(ca, "idp", names=["127.0.0.1"])
    (tmp_path / "crt").write_bytes(made.certificate)
    (tmp_path / "key").write_bytes(made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    answers: Answers = {"/keys": (200, jwks(key("one")))}
    async with server_of(answers, context) as server:
        answers["/.well-known/openid-configuration"] = 200, {"issuer": server.url, "jwks_uri": f"{server.url}/keys"}
        assert await discovered(server.url, ca=ca.certificate)() == jwks(key("one"))
        with pytest.raises(UpstreamUnreachable, match="not trusted"):
            await discovered(server.url, ca=make_ca("others").certificate)()
        with pytest.raises(UpstreamUnreachable, match="not trusted"):
            await discovered(server.url)()
        by_name = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(UpstreamUnreachable, match="another name"):
            await discovered(by_name, ca=ca.certificate)()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("https://idp.example", ""),
        ("https://idp.example:8443/a/b", ""),
        ("http://127.0.0.1:8080", ""),
        ("http://[::1]:8080/x", ""),
        ("http://localhost", ""),
        ("http://idp.example", "https"),
        ("http://127.0.0.1.evil.example", "https"),
        ("http://2130706433", "https"),
        ("HTTP://10.0.0.1", "https"),
        ("ftp://127.0.0.1", "https"),
        ("//idp.example", "https"),
        ("idp.example", "no URL"),
        ("https://", "no URL"),
        ("https://a b", "no URL"),
        ("https://a\r\nb", "no URL"),
        ("https://ïdp.example", "no URL"),
        ("https://idp.example:port", "no URL"),
        ("https://[::1", "no URL"),
        ("https://user@idp.example", "user name"),
        ("https://user:word@idp.example", "user name"),
        ("https://idp.example?x=1", "query"),
        ("https://idp.example?", "query"),
        ("https://idp.example#x", "fragment"),
        ("https://idp.example#", "fragment"),
    ],
)
def test_urls(url: str, complaint: str) -> None:
    """https, and http only on this machine where it was asked for; nothing but a host, a port and a path."""
    if complaint:
        with pytest.raises(ValueError, match=complaint):
            check_url(url, loopback_http=True, query=False)
    else:
        check_url(url, loopback_http=True, query=False)
        if url.startswith("http:"):
            with pytest.raises(ValueError, match="https"):
                check_url(url)


async def test_discovery_through_an_authenticator() -> None:
    """From a token to an identity over both documents."""
    answers: Answers = {"/keys": (200, jwks(key("one")))}
    async with server_of(answers) as server:
        answers["/.well-known/openid-configuration"] = 200, {"issuer": server.url, "jwks_uri": f"{server.url}/keys"}
        mine = issuer(url=server.url)
        async with JWTAuthenticator([mine], loopback_http=True, clock=lambda: NOW) as authenticator:
            bearer = token(iss=server.url)
            assert await authenticator.authenticate(presenting(bearer)) == Identity(
                "jane", groups=("system:authenticated",)
            )


# Opened by whom


async def test_alone_and_not_opened(tmp_path: Path) -> None:
    """An application that never opened it gets a 500 that says how, not a 401 that blames the caller."""
    of = issuer(keys=write_keys(tmp_path / "keys.json", key("one")))
    issuers = JWTAuthenticator([of], clock=lambda: NOW)
    middleware = AuthenticationMiddleware(who, authenticators=[issuers])
    headers = {"authorization": f"Bearer {token().decode()}"}
    answer = await Client(middleware).request("GET", "/", headers=headers)
    assert answer.status == 500
    assert "async with the JWTAuthenticator: …" in answer.text
    async with issuers:
        assert (await Client(middleware).request("GET", "/", headers=headers)).body == b"jane"


async def test_opened_twice(tmp_path: Path) -> None:
    """It works from the first who opens it to the last who closes it, and can be opened again."""
    of = issuer(keys=write_keys(tmp_path / "keys.json", key("one")))
    issuers = JWTAuthenticator([of], clock=lambda: NOW, least_interval=0.0)
    async with issuers:
        async with issuers:
            pass
        write_keys(tmp_path / "keys.json", key("two"))
        assert await issuers.authenticate(presenting(token(key("two"))))
    write_keys(tmp_path / "keys.json", key("three"))
    with pytest.raises(NotOpened):
        await issuers.authenticate(presenting(token(key("three"))))
    async with issuers:
        assert await issuers.authenticate(presenting(token(key("three"))))


async def test_with_a_front_proxy(tmp_path: Path) -> None:
    """A front proxy reads the keys for as long as it runs, of every authenticator that is inside of another, too."""
    of = issuer(keys=write_keys(tmp_path / "keys.json", key("one")))
    issuers = JWTAuthenticator([of], clock=lambda: NOW, least_interval=0.0)
    within = TokenCookie("session", AuthenticatorUnion([TokenCache([issuers], clock=lambda: NOW)]))
    proxy = FrontProxy(who, authentication=[within], authorization=AllowAll())
    headers = {"cookie": f"session={token().decode()}"}
    assert (await Client(proxy).request("GET", "/", headers=headers)).status == 500
    async with proxy:
        assert (await Client(proxy).request("GET", "/", headers=headers)).body == b"jane"


async def who(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who asks."""
    body = scope["aggmw.identity"].user.encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
