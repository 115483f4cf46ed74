"""CVE-2020-8552: callers choose paths, methods and queries, and cannot make a metrics page grow by it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aggmw import APIService, FrontProxy, Identity
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.catalog import APIResource, APISubresource, GroupVersionKind
from aggmw.contracts.exchange import Exchange
from aggmw.middleware.authentication import Anonymous, StaticTokens
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.request_info.parse import parse
from aggmw.objects.discovery import api_resource_list
from aggmw.testing import Client

GROUP = "notes.example.com"
KIND = GroupVersionKind(GROUP, "v1", "Note")
RESOURCES = tuple(
    APIResource(f"notes{number}", KIND, True, "note", ("get",), subresources=(APISubresource("status", KIND),))
    for number in range(50)
)
LISTED = json.dumps(api_resource_list(GROUP, "v1", RESOURCES)).encode()
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "PROPFIND"]
CALLERS = {
    "anonymous": [],
    "unauthenticated": [(b"authorization", b"Bearer nonsense")],
    "unauthorised": [(b"authorization", b"Bearer bob")],
    "authorised": [(b"authorization", b"Bearer alice")],
}
WITHOUT_NAMES = 400
"""Label sets without names of resources: verbs, dry run, scopes, and the front proxy's own paths."""


class NotBob:
    """Alice may do everything, the anonymous may get one path, Bob nothing."""

    async def authorize(self, attributes: Attributes) -> Verdict:
        user = attributes.identity.user
        return Verdict(Outcome.ALLOW) if user == "alice" or attributes.path == "/open" else Verdict()


async def group(scope: Scope, receive: Receive, send: Send) -> None:
    """Lists itself, and answers all else with any status there may be."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    listing = scope["path"] == f"/apis/{GROUP}/v1"
    body = LISTED if listing else b"{}"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    status = 200 if listing else 200 + sum(scope["path"].encode()) % 99
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def targets(chance: random.Random) -> str:
    """Something that nobody serves, or something known with a name of the caller's."""

    def word() -> str:
        return "".join(chance.choices("abcdefgh0123456789", k=8))

    known = chance.choice(["notes1", "notes2/x/status", word(), f"notes3/x/{word()}"])
    shapes = [
        f"/{word()}/{word()}",
        f"/healthz/{word()}",
        f"/apis/{word()}.example.com/{word()}/{word()}/{word()}/{word()}",
        f"/apis/{GROUP}/{word()}/notes1/{word()}",
        f"/apis/{GROUP}/v1/namespaces/{word()}/{known}",
        f"/api/v1/namespaces/{word()}/{word()}/{word()}/{word()}",
        f"/apis/{GROUP}/v1/{word()}?watch=1",
        f"/{word()}/../{word()}",
        f"/openapi/v3/apis/{word()}/{word()}",
    ]
    return chance.choice(shapes) + chance.choice(["", f"?dryRun={word()}", f"?{word()}={word()}", "?dryRun=All"])


def front(**options: Any) -> tuple[FrontProxy, Metrics]:
    metrics = Metrics(**options)
    proxy = FrontProxy(
        authentication=[StaticTokens({"alice": Identity("alice"), "bob": Identity("bob")})],
        anonymous=Anonymous(["/open"]),
        authorization=NotBob(),
        services=[APIService.local(GROUP, "v1", app=group)],
        metrics=metrics,
    )
    return proxy, metrics


async def ready(proxy: FrontProxy) -> None:
    """Until discovery has heard the group."""
    async with asyncio.timeout(60):
        while not proxy.ready:
            await asyncio.sleep(0.005)


async def label_sets(metrics: Metrics) -> set[tuple[str, ...]]:
    """Those of durations."""
    page = (await metrics.page()).body.decode()
    return {
        tuple(value for key, value in sorted(sample.labels.items()) if key != "le")
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "apiserver_request_duration_seconds_count"
    }


@pytest.mark.parametrize("caller", CALLERS)
async def test_cve_2020_8552_random_requests(caller: str) -> None:
    """Whoever asks for whatever: few label sets, no name of a caller's choice in any of them."""
    proxy, metrics = front()
    chance = random.Random(caller)
    async with proxy:
        await ready(proxy)
        client = Client(proxy)
        asked = [targets(chance) for _ in range(1500)]
        for target in asked:
            await client.request(chance.choice(METHODS), target, headers=CALLERS[caller])
        found = await label_sets(metrics)
    assert 0 < len(found) < 150
    words = {word for labels in found for word in labels}
    assert words <= {
        *("apiserver", "", "All", "invalid", "other", GROUP, "v1", "notes1", "notes2", "notes3", "status"),
        *("GET", "LIST", "WATCH", "POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION"),
        *("resource", "namespace", "cluster", "/healthz", "/openapi"),
    }
    assert (GROUP in words) is (caller == "authorised")


async def test_cve_2020_8552_known_names_in_all_combinations() -> None:
    """An authorised caller who goes through all names, verbs and scopes meets the limit; the page stays bounded."""
    proxy, metrics = front(max_label_sets=40)
    async with proxy:
        await ready(proxy)
        client = Client(proxy)
        for number in range(50):
            for method in METHODS:
                for target in (
                    "notes{}",
                    "namespaces/a/notes{}",
                    "namespaces/a/notes{}/b",
                    "notes{}/b/status?dryRun=All",
                ):
                    path = f"/apis/{GROUP}/v1/{target.format(number)}"
                    await client.request(method, path, headers=CALLERS["authorised"])
        found = await label_sets(metrics)
        page = (await metrics.page()).body
    assert len([labels for labels in found if GROUP in labels]) == 40
    assert len(found) < 40 + WITHOUT_NAMES
    folded = next(line for line in page.splitlines() if line.startswith(b"aggmw_metrics_folded_requests_total "))
    assert float(folded.split()[1]) > 1000


async def test_cve_2020_8552_in_flight_is_no_way_around() -> None:
    """Watches that go on have labels, too: they are bounded in the same way."""
    _, metrics = front(max_label_sets=2)
    metrics.include(known=lambda *names: True)

    for number in range(500):
        path = f"/apis/{GROUP}/v1/things{number}"
        exchange = Exchange({"type": "http", "method": "GET", "path": path, "headers": []}, ())
        exchange.request_info = parse("GET", path.encode(), b"watch=1")
        await metrics.decide(exchange)
    page = (await metrics.page()).body
    gauges = [line for line in page.splitlines() if line.startswith(b"apiserver_longrunning_requests{")]
    assert len(gauges) == 3
    assert sum(float(line.split()[-1]) for line in gauges) == 500
