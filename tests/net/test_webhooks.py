"""Webhooks: where a kubeconfig says they are, and how often they are asked."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from aggmw.errors import ConfigurationError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from aggmw.net.kubeconfig import Remote, read_kubeconfig
from aggmw.net.webhooks import Retries, Webhook
from aggmw.pki.make import issue_client, issue_server, make_ca
from aggmw.testing import ScriptedBackend, respond
from aggmw.testing.steps import Close, ReadHead, ReadRequest, ReadToEnd, Reset, Send

SOON = Retries(pause=0.0)


def config(**changes: Any) -> dict[str, Any]:
    """A kubeconfig; None takes a part away."""
    whole: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://webhook.example:8443/review"}}],
        "users": [{"name": "u", "user": {}}],
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def written(directory: Path, **changes: Any) -> Path:
    path = directory / "webhook.kubeconfig"
    path.write_text(yaml.safe_dump(config(**changes)))
    return path


def cluster(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "c", "cluster": {"server": "https://webhook.example"} | fields}]


def user(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "u", "user": {name.replace("_", "-"): value for name, value in fields.items()}}]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def to(backend: ScriptedBackend, **options: Any) -> Webhook:
    return Webhook(Remote(f"http://127.0.0.1:{backend.port}/x", None), **{"retries": SOON} | options)


def test_address_and_credentials(tmp_path: Path) -> None:
    """The current context's cluster and user; the token's file lies beside."""
    (tmp_path / "token").write_text("secret\n")
    remote = read_kubeconfig(written(tmp_path, users=user(tokenFile="token")))
    assert (remote.url, remote.authorization()) == ("https://webhook.example:8443/review", b"Bearer secret")
    assert "secret" not in repr(remote)
    assert read_kubeconfig(written(tmp_path, users=user(token="t"))).authorization() == b"Bearer t"
    remote = read_kubeconfig(written(tmp_path, users=user(username="a", password="b")))
    assert remote.authorization() == b"Basic " + base64.b64encode(b"a:b")
    remote = read_kubeconfig(written(tmp_path, contexts=[{"name": "here", "context": {"cluster": "c"}}]))
    assert remote.authorization() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current-context": None}, "current-context: Required value"),
        ({"current-context": "there"}, "current-context: names a context that is not in contexts"),
        ({"clusters": []}, "cluster: names a cluster that is not in clusters"),
        ({"users": []}, "user: names a user that is not in users"),
        ({"kind": "Secret"}, "kind: must be Config"),
        ({"clusters": cluster(server="http://webhook.example")}, "server: Invalid value"),
        ({"clusters": cluster(server="webhook.example")}, "server: Invalid value"),
        ({"clusters": cluster(server="https://a:b@webhook.example")}, "server: Invalid value"),
        ({"clusters": cluster(**{"insecure-skip-tls-verify": True})}, "insecure-skip-tls-verify: is not supported"),
        ({"clusters": cluster(**{"proxy-url": "http://p"})}, "proxy-url: is not supported"),
        ({"clusters": cluster(**{"certificate-authority": "none.pem"})}, "certificate-authority: cannot be read"),
        ({"clusters": cluster(**{"certificate-authority-data": "%"})}, "certificate-authority-data: is not base64"),
        ({"clusters": cluster(**{"certificate-authority-data": "eA=="})}, "is not a bundle of certificates"),
        ({"clusters": cluster(servr="x")}, "servr: unknown field"),
        ({"users": user(exec={"command": "sh"})}, "exec: is not supported: plugins are not run"),
        ({"users": user(client_certificate_data="eA==")}, "must be given together"),
        (
            {"users": user(client_certificate_data="eA==", client_key_data="eA==")},
            "client-certificate: certificate and key cannot be used",
        ),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Security: nothing that would let others decide is accepted, and nothing is overlooked."""
    with pytest.raises(ConfigurationError) as caught:
        read_kubeconfig(written(tmp_path, **changes))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"users": user(client_certificate="none.crt", client_key="none.key")},
            ["client-certificate: cannot be read: No such file", "client-key: cannot be read: No such file"],
        ),
        (
            {"users": user(client_certificate="none.crt", client_key_data="eA==")},
            ["client-certificate: cannot be read: No such file"],
        ),
        (
            {"users": user(client_certificate_data="%", client_key_data="eA==")},
            ["client-certificate-data: is not base64"],
        ),
        ({"users": user(client_certificate="none.crt")}, ["client-certificate: cannot be read: No such file"]),
        (
            {"users": user(client_certificate="a\0b", client_key="k")},
            ["client-certificate: cannot be read", "client-key"],
        ),
        ({"users": user(tokenFile="a\0b")}, ["tokenFile: cannot be read: embedded null byte"]),
        ({"clusters": cluster(**{"certificate-authority": "a"})}, ["certificate-authority: cannot be read: No such"]),
    ],
)
def test_what_cannot_be_read_is_one_mistake(tmp_path: Path, changes: dict[str, Any], expected: list[str]) -> None:
    """A file that is not there is told once, and not a second time as something that cannot be used."""
    with pytest.raises(ConfigurationError) as caught:
        read_kubeconfig(written(tmp_path, **changes))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line


async def test_one_object_out_and_one_back() -> None:
    """JSON both ways."""

    def answer(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /x HTTP/1.1\r\n")
        assert json.loads(body) == {"a": 1}
        return respond(201, body=b'{"b":2}')

    async with ScriptedBackend(answer) as backend:
        assert await to(backend).ask({"a": 1}) == {"b": 2}


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    """The kubeconfig's own authority is trusted, its certificate shown, and its name checked."""
    ca = make_ca("webhooks")
    server, client = issue_server(ca, "webhook", names=["webhook.example"]), issue_client(ca, "aggmw")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "server.pem").write_bytes(server.certificate + server.key)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(cadata=ca.certificate.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    fields = {"certificate-authority-data": encoded(ca.certificate), "tls-server-name": "webhook.example"}
    shown = user(client_certificate_data=encoded(client.certificate), client_key_data=encoded(client.key))
    async with ScriptedBackend(lambda _: respond(200, body=b"{}"), context) as backend:
        url = f"https://127.0.0.1:{backend.port}"
        remote = read_kubeconfig(written(tmp_path, clusters=cluster(server=url, **fields), users=shown))
        assert await Webhook(remote).ask({}) == {}
        del fields["tls-server-name"]
        remote = read_kubeconfig(written(tmp_path, clusters=cluster(server=url, **fields), users=shown))
        with pytest.raises(UpstreamUnreachable):
            await Webhook(remote, retries=Retries(attempts=1)).ask({})


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_asks_again_after_a_passing_failure(status: int) -> None:
    """Five times at most."""
    answers = [respond(status)] * 4 + [respond(200, body=b"{}")]
    async with ScriptedBackend(lambda _: answers.pop(0)) as backend:
        assert await to(backend).ask({}) == {}
        assert answers == []


async def test_asks_again_when_the_connection_ends_early() -> None:
    """A reset says nothing of the next connection; a question that is read twice changes nothing."""
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"
    whole = respond(200, body=b"{}")
    scripts = ([ReadRequest(), Reset()], [ReadRequest(), Send(cut), Close()], [ReadRequest(), Send(whole), Close()])
    async with ScriptedBackend.per_connection(*scripts) as backend:
        assert await to(backend).ask({}) == {}
        assert len(backend.connections) == 3


async def test_nonsense_is_not_asked_for_again() -> None:
    """What is no HTTP, or too large, will be the same the next time."""
    async with ScriptedBackend(
        [ReadRequest(), Send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n{}"), Close()]
    ) as backend:
        with pytest.raises(UpstreamBroken, match="compressed"):
            await to(backend).ask({})
        assert len(backend.connections) == 1


async def test_the_last_failure_counts() -> None:
    """Then nobody is asked any more."""
    async with ScriptedBackend(lambda _: respond(503)) as backend:
        with pytest.raises(UpstreamBroken, match="answered 503"):
            await to(backend).ask({})
        assert len(backend.requests) == 5


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404])
async def test_does_not_ask_again_what_will_not_change(status: int) -> None:
    """A redirect is a failure as well: nobody sends a token elsewhere."""
    async with ScriptedBackend(lambda _: respond(status, [(b"location", b"http://127.0.0.1:1/")])) as backend:
        with pytest.raises(UpstreamBroken, match=f"answered {status}"):
            await to(backend).ask({})
        assert len(backend.requests) == 1


async def test_waits_as_long_as_it_is_told() -> None:
    """`Retry-After` goes before the pauses, up to a limit."""
    answers = [respond(503, [(b"retry-after", b"0")]), respond(200, body=b"{}")]
    async with ScriptedBackend(lambda _: answers.pop(0)) as backend:
        assert await to(backend, retries=Retries(pause=1000.0)).ask({}) == {}


async def test_nobody_is_there() -> None:
    """Tried again, and then said."""
    async with ScriptedBackend(lambda _: respond(200)) as backend:
        webhook = to(backend)
    with pytest.raises(UpstreamUnreachable):
        await webhook.ask({})


async def test_answer_that_does_not_come() -> None:
    """A time-out ends each attempt."""
    async with ScriptedBackend([ReadHead(), ReadToEnd()]) as backend:
        with pytest.raises(UpstreamTimeout):
            await to(backend, timeout=0.05, retries=Retries(attempts=1)).ask({})


@pytest.mark.parametrize("body", [b"", b"[]", b"x", b"[" * 100_000, b'"' + b"x" * 2_000_000 + b'"'])
async def test_answer_that_is_no_object(body: bytes) -> None:
    """Security: whatever comes back is bounded, and an error."""
    async with ScriptedBackend(lambda _: respond(200, body=body)) as backend:
        with pytest.raises(UpstreamBroken):
            await to(backend).ask({})
