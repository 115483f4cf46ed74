"""Services with several servers in a configuration: a path service and an API group, through the whole front proxy."""

from __future__ import annotations

from pathlib import Path

from tests.middleware.proxy.proxying import dead_port

from aggmw.config import load
from aggmw.config.compose import Credentials, compose
from aggmw.contracts.backends import BalancedBackend
from aggmw.contracts.balancing import Balancing
from aggmw.contracts.drain import Drain
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import issue_client, make_ca
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

CONFIGURATION = """
authentication: {tokenFile: tokens.csv}
authorization: {policy: policy.csv}
services:
  files: [services.yaml]
  balancing: {failures: 2}
  paths:
    - {path: /billing/, url: [DEAD, ALIVE]}
    - {path: /own/, url: [DEAD, ALIVE], balancing: {sticky: identity}}
    - {path: /one/, url: [ALIVE]}
"""
SERVICES = """
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.notes.example.com, annotations: {aggmw/url: "DEAD, ALIVE"}}
spec:
  group: notes.example.com
  version: v1
  groupPriorityMinimum: 1000
  versionPriority: 10
  service: {namespace: notes, name: api}
"""
ASK = {"authorization": "Bearer token"}


async def test_several_servers(tmp_path: Path) -> None:
    """Every request is answered by the one that lives; options are those of all services, or the service's own."""
    asked: list[ReceivedRequest] = []

    def answer(raw: bytes) -> bytes:
        asked.append(ReceivedRequest.of(raw))
        return respond(body=b"here")

    ca = make_ca("clients")
    made = issue_client(ca, "front-proxy")
    pair = ClientCertificatePair(tmp_path / "front-proxy.crt", tmp_path / "front-proxy.key")
    pair.certificate.write_bytes(made.certificate)
    pair.key.write_bytes(made.key)
    (tmp_path / "clients.crt").write_bytes(ca.certificate)
    (tmp_path / "tokens.csv").write_text("token,alice,1\n")
    (tmp_path / "policy.csv").write_text("p, user:alice, *, *, *, *, *\np2, user:alice, get|post, /*\n")
    async with ScriptedBackend(answer) as server:
        dead = f"http://127.0.0.1:{await dead_port()}"
        for name, text in (("config.yaml", CONFIGURATION), ("services.yaml", SERVICES)):
            (tmp_path / name).write_text(text.replace("DEAD", dead).replace("ALIVE", server.url))
        composed = compose(load(tmp_path / "config.yaml"), Credentials(tmp_path / "clients.crt", pair), Drain())
        routes = composed.front_proxy._source.routes
        backends = {path.strip("/"): service.backend for path, service in routes.by_path.items()}
        backends["notes"] = routes.services[0].backend  # type: ignore[assignment]  # it has one
        assert not isinstance(backends.pop("one"), BalancedBackend)
        options = {
            name: backend.balancing for name, backend in backends.items() if isinstance(backend, BalancedBackend)
        }
        assert options == {
            "billing": Balancing(failures=2),
            "own": Balancing(sticky="identity"),
            "notes": Balancing(failures=2),
        }
        async with composed.front_proxy as front:
            client = Client(front)
            for path in ("/billing/x", "/own/x", "/one/x", "/apis/notes.example.com/v1/namespaces/dev/notes"):
                for method in ("GET", "POST") if "apis" in path else ("GET",):
                    for _ in range(6):
                        response = await client.request(method, path, ASK)
                        assert (response.status, response.body) == (200, b"here"), path
        group = [each for each in asked if each.target.endswith(b"/notes")]
        assert {each.header("x-forwarded-host") for each in group} == {dead.removeprefix("http://").encode()}
        assert {each.header("host") for each in asked} == {server.url.removeprefix("http://").encode()}
