"""What a configuration names is read again while its front proxy runs: what counts then, and what a mistake changes."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.config.again import read_again

from aggmw.config import load
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca
from aggmw.testing import Client, ReadHead, Response, ScriptedBackend, Send, VirtualClock, Wait, respond

CERTIFICATE, SERVICES = "client certificate for services", "services"
ASK = {"authorization": "Bearer token"}
NOTES = "/apis/notes.example.com/v1/namespaces/dev/notes"
APP = """
started = 0


class App:
    async def serve(self, scope, receive, send):
        global started
        if scope["type"] == "lifespan":
            started += 1
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"here %d" % started})


one = App()
"""


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return make_ca("services")


@pytest.fixture
def place(ca: KeyPair, tmp_path: Path) -> Path:
    """A directory with credentials, and alice, who may do everything."""
    (tmp_path / "clients.crt").write_bytes(make_ca("clients").certificate)
    (tmp_path / "tokens.csv").write_text("token,alice,1\n")
    (tmp_path / "policy.csv").write_text("p, user:alice, *, *, *, *, *\np2, user:alice, get, /*\n")
    install(issue_client(ca, "front-proxy"), pair_of(tmp_path))
    return tmp_path


def pair_of(place: Path) -> ClientCertificatePair:
    return ClientCertificatePair(place / "front-proxy.crt", place / "front-proxy.key")


def install(made: KeyPair, pair: ClientCertificatePair) -> None:
    pair.certificate.write_bytes(made.certificate)
    pair.key.write_bytes(made.key)


def secure(ca: KeyPair, place: Path, name: str) -> ssl.SSLContext:
    """A server that asks for a client certificate of this authority."""
    made = issue_server(ca, "server", names=[name])
    (place / "server.crt").write_bytes(made.certificate)
    (place / "server.key").write_bytes(made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "server.crt", place / "server.key")
    context.load_verify_locations(cadata=ca.certificate.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def composed(place: Path, services: str) -> Composed:
    (place / "config.yaml").write_text(
        "authentication: {tokenFile: tokens.csv}\nauthorization: {policy: policy.csv}\nservices:\n" + services
    )
    return compose(load(place / "config.yaml"), Credentials(place / "clients.crt", pair_of(place)), Drain())


@asynccontextmanager
async def running(composed: Composed) -> AsyncIterator[Client]:
    async with composed.front_proxy:
        yield Client(composed.front_proxy)


async def ask(client: Client, path: str) -> Response:
    return await client.request("GET", path, headers=ASK)


async def mistakes(composed: Composed, what: str, place: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        await read_again(composed, what)
    return str(caught.value).replace(f"{place}/", "").splitlines()


async def test_certificate(ca: KeyPair, place: Path) -> None:
    """§1.10: the front proxy's certificate; what does not fit leaves the old one in use."""
    (place / "ca.crt").write_bytes(ca.certificate)
    async with ScriptedBackend(lambda request: respond(body=b"well"), secure(ca, place, "billing")) as server:
        made = composed(place, f"  paths: [{{path: /billing/, url: '{server.url}', ca: ca.crt, serverName: billing}}]")
        async with running(made) as client:

            async def shown() -> bytes | None:
                assert (await ask(client, "/billing/x")).body == b"well"
                return server.connections[-1].certificate

            before = await shown()
            after = issue_client(ca, "front-proxy")
            pair_of(place).certificate.write_bytes(after.certificate)
            assert await mistakes(made, CERTIFICATE, place) == [
                "front-proxy.key: does not belong to the certificate in front-proxy.crt"
            ]
            assert await shown() == before
            install(after, pair_of(place))
            await read_again(made, CERTIFICATE)
            assert await shown() == x509.load_pem_x509_certificate(after.certificate).public_bytes(Encoding.DER)


def test_bad_certificate_at_the_start(place: Path) -> None:
    """It is a mistake like any other, and told with them."""
    pair_of(place).key.write_bytes(b"")
    with pytest.raises(ConfigurationError) as caught:
        composed(place, "  files: [none.yaml]")
    assert str(caught.value).replace(f"{place}/", "").splitlines() == [
        "none.yaml: cannot be read: No such file or directory",
        "front-proxy.key: is not a private key in PEM",
    ]


async def test_ca_bundles(ca: KeyPair, place: Path) -> None:
    """The CA of a path service: the new one counts, one that is none changes nothing."""
    bundle = place / "ca.crt"
    bundle.write_bytes(make_ca("former").certificate)
    async with ScriptedBackend(lambda request: respond(body=b"well"), secure(ca, place, "billing")) as server:
        made = composed(place, f"  paths: [{{path: /billing/, url: '{server.url}', ca: ca.crt, serverName: billing}}]")
        async with running(made) as client:
            assert "its certificate is not trusted" in (await ask(client, "/billing/x")).text
            bundle.write_bytes(ca.certificate)
            await read_again(made, SERVICES)
            assert (await ask(client, "/billing/x")).body == b"well"
            bundle.write_text("nonsense")
            (mistake,) = await mistakes(made, SERVICES, place)
            assert mistake.startswith("config.yaml: services.paths[0]: ca.crt: holds no PEM certificate")
            assert (await ask(client, "/billing/x")).body == b"well"
            assert len(server.connections) == 1
            bundle.write_bytes(make_ca("next").certificate)
            await read_again(made, SERVICES)
            assert "its certificate is not trusted" in (await ask(client, "/billing/x")).text


def api_service(ca: KeyPair | None) -> str:
    bundle = "" if ca is None else f"  caBundle: {base64.b64encode(ca.certificate).decode()}\n"
    return (
        "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1.notes.example.com}\nspec:\n"
        "  group: notes.example.com\n  version: v1\n  groupPriorityMinimum: 1000\n  versionPriority: 15\n"
        f"  service: {{namespace: notes, name: api}}\n{bundle}"
    )


async def test_service_files(ca: KeyPair, place: Path) -> None:
    """Services come, change their CA and go with their files; who is being served is served to the end."""
    file = place / "services.yaml"
    file.write_text("")
    going = asyncio.Event()

    def answer(request: bytes) -> object:
        if request.startswith(b"GET /apis/notes.example.com/v1/namespaces/"):
            return [respond(headers={"Content-Length": "7"}, body=b"not"), Wait(going), Send(b"es!!")]
        return respond(404)

    async with ScriptedBackend(answer, secure(ca, place, "api.notes.svc")) as server:  # type: ignore[arg-type]
        where = f"  files: [services.yaml]\n  resolve: {{notes/api: '{server.host}:{server.port}'}}"
        made = composed(place, where)
        async with running(made) as client:
            assert (await ask(client, NOTES)).status == 404
            file.write_text(api_service(make_ca("former")))
            await read_again(made, SERVICES)
            assert "its certificate is not trusted" in (await ask(client, NOTES)).text
            file.write_text(api_service(ca))
            await read_again(made, SERVICES)
            async with client.stream("GET", NOTES, headers=ASK) as response:
                file.write_text("kind: Nonsense")
                (mistake,) = await mistakes(made, SERVICES, place)
                assert mistake.startswith("services.yaml: document 1: must be an APIService")
                file.write_text("")
                await read_again(made, SERVICES)
                assert (await ask(client, NOTES)).status == 404
                going.set()
                assert await response.read() == b"notes!!"


async def test_applications_stay(place: Path, clock: VirtualClock) -> None:
    """An application in this process is the same one afterwards, and is not started again."""
    (place / "application_of_the_reloads.py").write_text(APP)
    made = composed(place, '  paths: [{path: /tools/, app: "application_of_the_reloads:one.serve"}]')
    async with running(made) as client:
        assert (await ask(client, "/tools/")).body == b"here 1"
        await read_again(made, SERVICES)
        await clock.advance(2)  # who starts applications that come looks once a second
        assert (await ask(client, "/tools/")).body == b"here 1"


async def test_limits_reach_the_transport(place: Path) -> None:
    """`services.limits` is what one server may cost."""
    async with ScriptedBackend([ReadHead(), respond(headers={"Content-Length": "9"}), ReadHead()]) as server:
        paths = f"  paths: [{{path: /one/, url: '{server.url}'}}]\n"
        made = composed(place, paths + "  limits: {connections: 1, waiting: 0}")
        async with running(made) as client, client.stream("GET", "/one/", headers=ASK):
            response = await ask(client, "/one/")
            assert (response.status, response.header("retry-after")) == (503, b"1")
