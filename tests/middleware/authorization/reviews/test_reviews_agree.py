"""A review says what the authorization stage decides: for any request, asked in any of the ways it can be asked in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.authorization import Attributes, Verdict
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.kinds import Object, WriteContext
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import StatusError
from aggmw.middleware.authorization import (
    Authorization,
    CasbinAuthorizer,
    LocalSubjectAccessReviews,
    SelfSubjectAccessReviews,
    SubjectAccessReviews,
    SubjectAccessReviewWebhook,
)
from aggmw.middleware.request_info.parse import parse
from aggmw.net.kubeconfig import Remote
from aggmw.net.webhooks import Webhook
from aggmw.objects.attributes import attributes_of
from aggmw.objects.bodies import ExpectedKind, FieldValidation, decode_object, encode_object
from aggmw.objects.protobuf import PROTOBUF
from aggmw.objects.selectors import Requirement, field_requirements, label_requirements

POLICY = """\
p, user:ann, get|list|create, core, pods|pods/log|*/status, dev, *
p, user:ann, list|watch, apps, *, *, web
p, group:devs, *, example.com, widgets, dev|prod, *
p, group:devs, delete, example.com, widgets, prod, *, deny
p, role:reader, get|list|watch, *, *, *, *
g, group:readers, role:reader
p2, group:devs, get, /healthz|/logs/*|/
p2, user:ann, get, /version, deny
p2, role:reader, get, *
"""


class Recording:
    """The shipped policy's decisions, with what was asked."""

    def __init__(self) -> None:
        self.asked: list[Attributes] = []
        self._casbin = CasbinAuthorizer.from_text(POLICY)

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.asked.append(attributes)
        return await self._casbin.authorize(attributes)


words = st.sampled_from(
    ["pods", "widgets", "namespaces", "dev", "prod", "web", "status", "log", "exec", "x y", "ä", "*"]
)
segments = st.lists(words, max_size=6)
prefixes = st.sampled_from(
    [["api", "v1"], ["apis", "apps", "v1"], ["apis", "example.com", "v2"], ["healthz"], ["logs"], []]
)
in_namespace = st.builds(lambda name: ["namespaces", name], st.sampled_from(["dev", "prod", "other"]))
paths = st.builds(
    lambda prefix, middle, rest, slash: "/" + "/".join(quote(each) for each in (*prefix, *middle, *rest)) + slash,
    prefixes,
    st.one_of(st.just([]), in_namespace),
    segments,
    st.sampled_from(["", "/"]),
)
fields = st.sampled_from(
    ["", "metadata.name=web", "spec.nodeName==n1,metadata.name=web", "a!=b", "a", r"a=x\,y", "a=1,"]
)
labels = st.sampled_from(["", "app=web", "app in (b, a),!old", "tier notin (x)", "old", "(", "app==web,app"])
identities = st.builds(
    Identity,
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["", "7"]),
    st.lists(st.sampled_from(["devs", "readers", "system:authenticated"]), max_size=3, unique=True).map(tuple),
    st.sampled_from([{}, {"example.com/team": ("a", "b")}]),
)


@st.composite
def requests(draw: st.DrawFn) -> RequestInfo | None:
    """As the front proxy reads it; None where it refuses to."""
    method = draw(st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]))
    selected = {"fieldSelector": draw(fields), "labelSelector": draw(labels)}
    query = [f"{key}={quote(each)}" for key, each in selected.items() if each] + draw(
        st.sampled_from([[], ["watch=1"]])
    )
    try:
        return parse(method, draw(paths).encode(), "&".join(query).encode())
    except StatusError:
        return None


def spec_of(info: RequestInfo, *, raw: bool) -> Object:
    """As a server that delegates authorization asks about a request."""
    if not info.is_resource:
        return {"nonResourceAttributes": {"path": info.path, "verb": info.verb}}
    asked: Object = {
        "verb": info.verb,
        "group": info.api_group,
        "version": info.api_version,
        "resource": info.resource,
        "subresource": info.subresource,
        "namespace": info.namespace,
        "name": info.name,
    }
    for name, selector, read in (
        ("fieldSelector", info.field_selector, field_requirements),
        ("labelSelector", info.label_selector, label_requirements),
    ):
        if selector and raw:
            asked[name] = {"rawSelector": selector}
        elif requirements := read(selector):
            asked[name] = {"requirements": [_written(each) for each in requirements]}
    return {"resourceAttributes": asked}


def _written(requirement: Requirement) -> Object:
    return {"key": requirement.key, "operator": requirement.operator, "values": list(requirement.values)}


def sent(kind: Any, spec: Object, form: str) -> Object:
    """A review as it arrives in a body of that form."""
    gvk = kind.resource.kind
    value: Object = {"apiVersion": f"{gvk.group}/{gvk.version}", "kind": gvk.kind, "spec": spec}
    expected = ExpectedKind(value["apiVersion"], gvk.kind)
    found, _ = decode_object(form, encode_object(value, form), expected, FieldValidation.STRICT)
    return found


class Peer(Webhook):
    """Our reviews, as another front proxy asks for them."""

    def __init__(self, authorizer: Recording) -> None:
        super().__init__(Remote("http://127.0.0.1:9", None))
        self._reviews = SubjectAccessReviews(authorizer)

    async def ask(self, value: Mapping[str, Any]) -> Object:
        found = sent(self._reviews, value["spec"], "application/json")
        return await self._reviews.create(found, WriteContext(Identity("server"), parse("POST", b"/", b"")))


async def decided(authorizer: Recording, identity: Identity, info: RequestInfo) -> tuple[bool, Attributes]:
    exchange = Exchange({"type": "http"}, (), request_id="id-1", request_info=info, identity=identity)
    answer = await Authorization(authorizer).decide(exchange)
    return answer is None, authorizer.asked.pop()


@settings(deadline=None, max_examples=300)
@given(requests(), identities, st.booleans(), st.sampled_from(["application/json", "application/yaml", PROTOBUF]))
async def test_review_says_what_is_decided(info: RequestInfo | None, identity: Identity, raw: bool, form: str) -> None:
    """About somebody, about oneself and in a namespace: the same attributes, so the same answer."""
    if info is None:
        return
    authorizer = Recording()
    allowed, attributes = await decided(authorizer, identity, info)
    spec = spec_of(info, raw=raw)
    subject = {
        "user": identity.user,
        "uid": identity.uid,
        "groups": list(identity.groups),
        "extra": {key: list(values) for key, values in identity.extra.items()},
    }
    asking: list[tuple[Any, Object, WriteContext]] = [
        (SubjectAccessReviews(authorizer), spec | subject, WriteContext(Identity("server"), info)),
        (SelfSubjectAccessReviews(authorizer), spec, WriteContext(identity, info)),
    ]
    if info.namespace and info.is_resource:
        asking.append((LocalSubjectAccessReviews(authorizer), spec | subject, WriteContext(Identity("server"), info)))
    for kind, asked, context in asking:
        answer = await kind.create(sent(kind, asked, form), context)
        assert answer["status"]["allowed"] is allowed
        assert authorizer.asked.pop() == attributes


@settings(deadline=None, max_examples=200)
@given(requests(), identities)
async def test_another_front_proxy_learns_what_is_decided(info: RequestInfo | None, identity: Identity) -> None:
    """One that asks by `SubjectAccessReviewWebhook` decides as we do."""
    if info is None:
        return
    authorizer = Recording()
    attributes = attributes_of(identity, info)
    ours = await authorizer.authorize(attributes)
    theirs = await SubjectAccessReviewWebhook(Peer(authorizer)).authorize(attributes)
    assert theirs == ours
    assert authorizer.asked == [attributes] * 2


@pytest.mark.parametrize("query", [b"", b"fieldSelector=metadata.name%3Dweb", b"watch=1&labelSelector=a%3D1%2Cb"])
async def test_some_are_allowed_and_some_are_not(query: bytes) -> None:
    """The property above speaks of both answers."""
    answers = set()
    for user, path in (
        ("ann", b"/apis/apps/v1/deployments"),
        ("bob", b"/apis/apps/v1/deployments"),
        ("ann", b"/api/v1/pods"),
    ):
        info = parse("GET", path, query)
        answers.add((await decided(Recording(), Identity(user), info))[0])
    assert answers == ({True, False} if b"metadata.name" in query else {False})
