"""Events to another server: what it gets, what becomes of its answers, and kubeconfig files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from aggmw import FrontProxy, Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.audit import Audit, AuditPolicy, AuditWebhook
from aggmw.middleware.authentication import StaticTokens
from aggmw.net.kubeconfig import Remote
from aggmw.net.webhooks import Retries, Webhook
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

ONCE = Retries(attempts=1)


def sink_to(server: ScriptedBackend, **options: Any) -> AuditWebhook:
    webhook = Webhook(Remote(f"http://{server.host}:{server.port}/audit", None, token="t0p-secret"), retries=ONCE)
    return AuditWebhook(webhook, **{"delay": 0.0, "interval": 0.0, **options})


def lists(server: ScriptedBackend) -> list[Any]:
    """The lists that a server received."""
    return [json.loads(ReceivedRequest.of(raw).body) for raw in server.requests]


def figures(sink: AuditWebhook) -> dict[str, float]:
    return {sample.name: sample.value for sample in sink.samples()}


async def test_whole_way() -> None:
    """A request through a front proxy is an event in an `EventList` by the end of the lifespan."""
    async with ScriptedBackend(lambda request: respond(200)) as server:
        audit = Audit(AuditPolicy.everything(), [sink_to(server, delay=30.0)])
        proxy = FrontProxy(authentication=[StaticTokens({"t": Identity("alice")})], audit=audit)
        async with proxy:
            for _ in range(2):
                await Client(proxy).request("GET", "/x", {"Authorization": "Bearer t"})
        (found,) = lists(server)
        assert (found["kind"], found["apiVersion"], found["metadata"]) == ("EventList", "audit.k8s.io/v1", {})
        assert [item["user"]["username"] for item in found["items"]] == ["alice", "alice"]
        request = ReceivedRequest.of(server.requests[0])
        assert (request.method, request.target) == ("POST", b"/audit")
        assert dict(request.headers)[b"content-type"] == b"application/json"
        assert dict(request.headers)[b"authorization"] == b"Bearer t0p-secret"


async def test_batches_and_what_a_client_may_write() -> None:
    """At most so many events at once; a lone half of a surrogate pair in a body poisons nothing."""
    async with ScriptedBackend(lambda request: respond(201)) as server:
        sink = sink_to(server, most=2)
        for number in range(3):
            sink.put({"n": number, "half": "\ud800"})
        async with Audit(AuditPolicy.everything(), [sink]).running():
            assert await sink.written()
        assert [[item["n"] for item in each["items"]] for each in lists(server)] == [[0, 1], [2]]


async def test_waiting_for_others_ends_with_a_full_batch() -> None:
    """A batch that is full, or somebody who has to know, does not wait for the delay."""
    async with ScriptedBackend(lambda request: respond(200)) as server:
        sink = sink_to(server, most=2, delay=3600.0)
        async with Audit(AuditPolicy.everything(), [sink]).running():
            sink.put({"n": 0})
            await asyncio.sleep(0)
            sink.put({"n": 1})
            assert await sink.written()
            sink.put({"n": 2})
            await asyncio.sleep(0)
            assert await sink.written()
        assert [[item["n"] for item in each["items"]] for each in lists(server)] == [[0, 1], [2]]


async def test_not_wanted_is_dropped() -> None:
    """A server that calls a batch bad would do so again: it is dropped, counted, and the next one goes on."""
    answers = [respond(413), respond(200)]
    async with ScriptedBackend(lambda request: answers.pop(0)) as server:
        sink = sink_to(server, most=1)
        with capture_logs() as log:
            async with Audit(AuditPolicy.everything(), [sink]).running():
                sink.put({"n": 0})
                sink.put({"n": 1})
                assert await sink.written()
        assert [each["items"][0]["n"] for each in lists(server)] == [0, 1]
    assert log[0]["reason"] == "the webhook answered 413"
    assert figures(sink)["aggmw_audit_dropped_events_total"] == 1
    assert figures(sink)["aggmw_audit_written_events_total"] == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_busy_is_tried_again(status: int) -> None:
    """What may have more luck later stays in the queue."""
    answers = [respond(status), respond(200)]
    async with ScriptedBackend(lambda request: answers.pop(0)) as server:
        sink = sink_to(server)
        sink.put({"n": 0})
        with capture_logs() as log:
            async with Audit(AuditPolicy.everything(), [sink]).running():
                assert not await sink.written()
                while answers:
                    await asyncio.sleep(0.01)
        assert [each["items"][0]["n"] for each in lists(server)] == [0, 0]
    assert log[0]["event"] == "audit events cannot be written, trying again"
    assert "t0p-secret" not in str(log)


async def test_another_server(tmp_path: Path) -> None:
    """A kubeconfig that is read again counts for what waits, too; a broken one changes nothing."""
    file = tmp_path / "audit.kubeconfig"

    def pointing_to(server: ScriptedBackend) -> None:
        clusters = [{"name": "a", "cluster": {"server": server.url}}]
        contexts = [{"name": "a", "context": {"cluster": "a"}}]
        file.write_text(json.dumps({"current-context": "a", "contexts": contexts, "clusters": clusters}))

    async with ScriptedBackend(lambda _: respond(200)) as first, ScriptedBackend(lambda _: respond(200)) as second:
        pointing_to(first)
        sink = AuditWebhook.load(file, most=1)
        sink.put({"n": 1})
        pointing_to(second)
        sink.reload(file)
        file.write_text("{}")
        with pytest.raises(ConfigurationError, match=r"audit\.kubeconfig"):
            sink.reload(file)
        async with Audit(AuditPolicy.everything(), [sink]).running():
            assert await sink.written()
        assert (len(first.requests), len(second.requests)) == (0, 1)


def test_kubeconfig(tmp_path: Path) -> None:
    """kube-apiserver's file; all its mistakes at once."""
    file = tmp_path / "audit.kubeconfig"
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://audit.example/events"}}],
    }
    file.write_text(yaml.safe_dump(whole))
    assert repr(AuditWebhook.load(file)) == "AuditWebhook(Webhook(https://audit.example/events))"
    file.write_text(yaml.safe_dump(whole | {"current-context": "elsewhere"}))
    with pytest.raises(ConfigurationError, match=r"audit\.kubeconfig"):
        AuditWebhook.load(file)
