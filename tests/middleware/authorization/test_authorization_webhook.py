"""SubjectAccessReviewWebhook: what another server decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from aggmw.contracts.authorization import Attributes, Explanation, Miss, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.contracts.metrics import Source
from aggmw.errors import ConfigurationError, UpstreamBroken, UpstreamTimeout
from aggmw.middleware.authorization import DenyAll, SubjectAccessReviewWebhook, Union
from aggmw.net.kubeconfig import Remote
from aggmw.net.webhooks import Retries, Webhook
from aggmw.testing import ScriptedBackend, VirtualClock, respond

V1 = "authorization.k8s.io/v1"
ANN = Identity("ann", "7", ("devs", "system:authenticated"), {"example.com/team": ("a", "b")})
GET = Attributes(ANN, "get", True, "apps", "v1", "deployments", "scale", "dev", "web")
PATH = Attributes(Identity("bob"), "get", False, path="/metrics")
ALLOWED = {"allowed": True, "reason": "because"}


class Says(Webhook):
    """A webhook that says this, and keeps what it was asked."""

    def __init__(self, status: Any = None, error: Exception | None = None, **others: Any) -> None:
        super().__init__(Remote("http://127.0.0.1:9", None))
        self.asked: list[Mapping[str, Any]] = []
        self.status = status
        self.error = error
        self.others = others
        self.gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()

    async def ask(self, value: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(value)
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {"apiVersion": value["apiVersion"], "kind": "SubjectAccessReview", "status": self.status} | self.others


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def said(status: Any, **others: Any) -> Verdict:
    return await SubjectAccessReviewWebhook(Says(status, **others), name="w").authorize(GET)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (ALLOWED, Verdict(Outcome.ALLOW, "because")),
        ({"allowed": False, "denied": True, "reason": "no"}, Verdict(Outcome.DENY, "no")),
        ({"denied": True}, Verdict(Outcome.DENY)),
        ({"allowed": False}, Verdict(Outcome.NO_OPINION)),
        ({"allowed": False, "reason": "unknown"}, Verdict(Outcome.NO_OPINION, "unknown")),
        ({}, Verdict(Outcome.NO_OPINION)),
        ({"allowed": None, "denied": None}, Verdict(Outcome.NO_OPINION)),
        ({"allowed": True, "evaluationError": "a role is missing"}, Verdict(Outcome.ALLOW)),
        ({"allowed": True, "reason": ["x"]}, Verdict(Outcome.ALLOW)),
        ({"denied": True, "reason": "x" * 5000}, Verdict(Outcome.DENY, "x" * 1024)),
        ({"denied": True, "reason": "a\ud800b"}, Verdict(Outcome.DENY, "a\ufffdb")),
    ],
)
async def test_what_it_says(status: Any, verdict: Verdict) -> None:
    """§7.6: allowed, denied, or neither, which is no opinion."""
    assert await said(status) == verdict


@pytest.mark.parametrize("on_failure", ["Deny", "NoOpinion"])
async def test_both_is_a_denial(on_failure: Any) -> None:
    """§7.6: allowed and denied at once is a denial with an error, whatever the policy; it is not remembered."""
    webhook = Says({"allowed": True, "denied": True, "reason": "r"})
    authorizer = SubjectAccessReviewWebhook(webhook, name="w", on_failure=on_failure)
    for _ in range(2):
        verdict = await authorizer.authorize(GET)
        assert verdict == Verdict(Outcome.DENY, "r", "the webhook w both allows and denies")
    assert len(webhook.asked) == 2


async def test_what_is_sent() -> None:
    """§7.5: all attributes; what is empty is left out."""
    webhook = Says(ALLOWED)
    authorizer = SubjectAccessReviewWebhook(webhook)
    await authorizer.authorize(GET)
    await authorizer.authorize(PATH)
    assert webhook.asked == [
        {
            "apiVersion": V1,
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {
                "user": "ann",
                "uid": "7",
                "groups": ["devs", "system:authenticated"],
                "extra": {"example.com/team": ["a", "b"]},
                "resourceAttributes": {
                    "verb": "get",
                    "group": "apps",
                    "version": "v1",
                    "resource": "deployments",
                    "subresource": "scale",
                    "namespace": "dev",
                    "name": "web",
                },
            },
        },
        {
            "apiVersion": V1,
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {"user": "bob", "nonResourceAttributes": {"path": "/metrics", "verb": "get"}},
        },
    ]


async def test_selectors_are_sent_as_requirements() -> None:
    """What a review cannot say is left out: the question is wider, never narrower."""
    webhook = Says(ALLOWED)
    pods = Attributes(Identity("bob"), "list", True, "", "v1", "pods")
    authorizer = SubjectAccessReviewWebhook(webhook)
    await authorizer.authorize(
        pods._replace(field_selector=r"spec.nodeName=n1,x!=a\,b", label_selector="!d,a in (x,y),b,c!=z,n>5")
    )
    await authorizer.authorize(pods._replace(label_selector="n>5"))
    asked, wider = (each["spec"]["resourceAttributes"] for each in webhook.asked)
    assert asked["fieldSelector"] == {
        "requirements": [
            {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
            {"key": "x", "operator": "NotIn", "values": ["a,b"]},
        ]
    }
    assert asked["labelSelector"] == {
        "requirements": [
            {"key": "d", "operator": "DoesNotExist"},
            {"key": "a", "operator": "In", "values": ["x", "y"]},
            {"key": "b", "operator": "Exists"},
            {"key": "c", "operator": "NotIn", "values": ["z"]},
        ]
    }
    assert wider == {"verb": "list", "version": "v1", "resource": "pods"}


async def test_older_version() -> None:
    """§7.6: in v1beta1 groups are spelled `group`."""
    webhook = Says(ALLOWED)
    assert (await SubjectAccessReviewWebhook(webhook, version="v1beta1").authorize(GET)).allowed
    assert webhook.asked[0]["apiVersion"] == "authorization.k8s.io/v1beta1"
    assert webhook.asked[0]["spec"]["group"] == ["devs", "system:authenticated"]
    assert "groups" not in webhook.asked[0]["spec"]


@pytest.mark.parametrize(
    ("status", "others"),
    [
        (None, {}),
        ([], {}),
        ({"allowed": "true"}, {}),
        ({"allowed": 1}, {}),
        ({"allowed": True, "denied": "true"}, {}),
        ({"allowed": True, "denied": 1}, {}),
        (ALLOWED, {"kind": "TokenReview"}),
        (ALLOWED, {"apiVersion": "authorization.k8s.io/v1beta1"}),
        (ALLOWED, {"kind": None}),
    ],
)
@pytest.mark.parametrize("on_failure", ["Deny", "NoOpinion"])
async def test_nonsense_allows_nothing(status: Any, others: dict[str, Any], on_failure: Any) -> None:
    """Security: an answer that is not what it should be counts as none; what looks like a denial is not lost."""
    webhook = Says(status, **others)
    verdict = await SubjectAccessReviewWebhook(webhook, name="w", on_failure=on_failure).authorize(GET)
    assert verdict.outcome is (Outcome.DENY if on_failure == "Deny" else Outcome.NO_OPINION)
    assert verdict.error.startswith("the webhook w: its answer ")


@pytest.mark.parametrize(
    ("on_failure", "outcome"), [("Deny", Outcome.DENY), ("NoOpinion", Outcome.NO_OPINION)], ids=["deny", "no opinion"]
)
async def test_failure_policy(on_failure: Any, outcome: Outcome) -> None:
    """§7.6: while it cannot be asked: deny, or ask the next. It is never remembered, and the log says so."""
    webhook = Says(error=UpstreamBroken("gone"))
    authorizer = SubjectAccessReviewWebhook(webhook, name="w", on_failure=on_failure)
    with capture_logs() as logs:
        assert await authorizer.authorize(GET) == Verdict(outcome, "", "the webhook w: gone")
    assert [(each["event"], each["webhook"], each["problem"]) for each in logs] == [
        ("webhook gave no verdict", "w", "gone")
    ]
    webhook.error, webhook.status = None, ALLOWED
    assert (await authorizer.authorize(GET)).allowed


async def test_denies_by_default_when_it_cannot_be_asked() -> None:
    """Security: who says nothing of the failure policy gets the closed one: those behind are not asked."""
    union = Union([SubjectAccessReviewWebhook(Says(error=UpstreamBroken("gone"))), DenyAll()])
    assert (await union.authorize(GET)).error == "the webhook webhook: gone"


async def test_good_answers_are_remembered() -> None:
    """§7.6: an allow for five minutes, everything else for thirty seconds; then it is asked anew."""
    clock = Clock()
    webhook = Says(ALLOWED)
    authorizer = SubjectAccessReviewWebhook(webhook, clock=clock)
    assert authorizer.verdict(GET) is None
    await authorizer.authorize(GET)
    webhook.status = {"denied": True}
    clock.now = 299.9
    assert (await authorizer.authorize(GET)).allowed
    assert authorizer.verdict(GET) == Verdict(Outcome.ALLOW, "because")
    clock.now = 300.0
    assert authorizer.verdict(GET) is None
    assert await authorizer.authorize(GET) == Verdict(Outcome.DENY)
    webhook.status = ALLOWED
    clock.now = 329.9
    assert authorizer.verdict(GET) == await authorizer.authorize(GET) == Verdict(Outcome.DENY)
    clock.now = 330.0
    assert (await authorizer.authorize(GET)).allowed
    clock.now = 331.0
    assert (await authorizer.authorize(GET)).allowed
    assert len(webhook.asked) == 3


@pytest.mark.parametrize(
    "status", [{"allowed": True}, {"allowed": False}, {"denied": True}], ids=["allow", "no opinion", "deny"]
)
async def test_remembering_can_be_switched_off(status: dict[str, bool]) -> None:
    """Each for itself; what is not remembered is asked each time, also by those who come together."""
    webhook = Says(status)
    allowed = "allowed" in status and status["allowed"]
    options: dict[str, Any] = {"authorized_seconds": 0.0} if allowed else {"unauthorized_seconds": 0.0}
    authorizer = SubjectAccessReviewWebhook(webhook, **options)
    for _ in range(3):
        await authorizer.authorize(GET)
    assert len(webhook.asked) == 3
    never = SubjectAccessReviewWebhook(webhook, authorized_seconds=0.0, unauthorized_seconds=0.0)
    await asyncio.gather(*(never.authorize(GET) for _ in range(3)))
    assert len(webhook.asked) == 6


@pytest.mark.parametrize(
    "other",
    [
        GET._replace(identity=Identity("ann", "8", ANN.groups, ANN.extra)),
        GET._replace(identity=Identity("ann", "7", ("devs",), ANN.extra)),
        GET._replace(identity=Identity("ann", "7", ANN.groups, {"example.com/team": ("a",)})),
        GET._replace(identity=Identity("ann", "7", ANN.groups, {})),
        GET._replace(identity=Identity("bob", "7", ANN.groups, ANN.extra)),
        *(
            GET._replace(**{field: "x"})
            for field in ("verb", "api_group", "api_version", "resource", "subresource", "namespace", "name")
        ),
        GET._replace(field_selector="a=1"),
        GET._replace(label_selector="a=1"),
        Attributes(ANN, "get", False, path="/x"),
    ],
    ids=lambda attributes: repr(attributes)[-60:],
)
async def test_every_attribute_is_another_question(other: Attributes) -> None:
    """Issue 7.9: what was said of one request says nothing of another, whichever attribute differs."""
    webhook = Says(ALLOWED)
    authorizer = SubjectAccessReviewWebhook(webhook)
    await authorizer.authorize(GET)
    assert authorizer.verdict(other) is None
    await authorizer.authorize(other)
    assert len(webhook.asked) == 2


async def test_long_questions_are_not_remembered() -> None:
    """§7.6: from 10,000 characters on, so that nobody fills the memory."""
    webhook = Says(ALLOWED)
    authorizer = SubjectAccessReviewWebhook(webhook)
    rest = len("getapps") + len("v1deploymentsscaledev")
    for name, asked in (("x" * (9_999 - rest), 1), ("x" * (10_000 - rest), 2)):
        webhook.asked.clear()
        for _ in range(2):
            await authorizer.authorize(GET._replace(name=name))
        assert len(webhook.asked) == asked


async def test_memory_is_bounded() -> None:
    """What was not used for longest goes; refused answers put no allowed one out."""
    webhook = Says(ALLOWED)
    authorizer = SubjectAccessReviewWebhook(webhook, size=2)
    one, two, three = (GET._replace(name=name) for name in "abc")
    for attributes in (one, two, one, three):
        await authorizer.authorize(attributes)
    assert [authorizer.verdict(each) is not None for each in (one, two, three)] == [True, False, True]
    webhook.status = {"denied": True}
    for number in range(5):
        await authorizer.authorize(GET._replace(name=str(number)))
    assert [authorizer.verdict(each) is not None for each in (one, two, three)] == [True, False, True]


async def test_identical_questions_are_asked_once() -> None:
    """Who asks the same meanwhile waits for the same answer; another question does not wait."""
    webhook = Says(ALLOWED)
    webhook.gate = asyncio.Event()
    authorizer = SubjectAccessReviewWebhook(webhook)
    waiting = [asyncio.create_task(authorizer.authorize(GET)) for _ in range(5)]
    other = asyncio.create_task(authorizer.authorize(PATH))
    await webhook.arrived.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    webhook.gate.set()
    assert {verdict.allowed for verdict in await asyncio.gather(*waiting, other)} == {True}
    assert len(webhook.asked) == 2


async def test_failure_is_shared_but_not_kept() -> None:
    """Those who waited for a question that failed get that; the next one asks anew."""
    webhook = Says(error=UpstreamBroken("gone"))
    webhook.gate = asyncio.Event()
    authorizer = SubjectAccessReviewWebhook(webhook)
    waiting = [asyncio.create_task(authorizer.authorize(GET)) for _ in range(2)]
    await webhook.arrived.wait()
    webhook.gate.set()
    assert {verdict.allowed for verdict in await asyncio.gather(*waiting)} == {False}
    webhook.error, webhook.status = None, ALLOWED
    assert (await authorizer.authorize(GET)).allowed


async def test_who_goes_away_takes_nobody_along() -> None:
    """A client that leaves does not end the question of the others; the last one does."""
    webhook = Says(ALLOWED)
    webhook.gate = asyncio.Event()
    authorizer = SubjectAccessReviewWebhook(webhook)
    first, second = (asyncio.create_task(authorizer.authorize(GET)) for _ in range(2))
    await webhook.arrived.wait()
    first.cancel()
    await asyncio.wait([first])
    webhook.gate.set()
    assert (await second).allowed
    assert len(webhook.asked) == 1

    webhook.gate.clear()
    webhook.arrived.clear()
    alone = asyncio.create_task(authorizer.authorize(PATH))
    await webhook.arrived.wait()
    alone.cancel()
    await asyncio.wait([alone])
    webhook.gate.set()
    assert (await authorizer.authorize(PATH)).allowed
    assert len(webhook.asked) == 3
    assert samples(authorizer)["apiserver_authorization_webhook_evaluations_total", "canceled"] == 1


async def test_questions_at_the_same_time_are_bounded() -> None:
    """However many requests come, a slow server is asked only so much at once; the others wait, and are asked then."""
    webhook = Says(ALLOWED)
    webhook.gate = asyncio.Event()
    authorizer = SubjectAccessReviewWebhook(webhook, at_once=2)
    waiting = [asyncio.create_task(authorizer.authorize(GET._replace(name=name))) for name in "abcd"]
    await webhook.arrived.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(webhook.asked) == 2
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    webhook.gate.set()
    assert all(verdict.allowed for verdict in await asyncio.gather(*waiting[1:]))
    assert len(webhook.asked) == 4


async def test_all_attempts_together_have_an_end(clock: VirtualClock) -> None:
    """A server that never answers is given up after a minute, whatever is tried."""
    webhook = Says(ALLOWED)
    webhook.gate = asyncio.Event()
    asking = asyncio.create_task(SubjectAccessReviewWebhook(webhook, name="w").authorize(GET))
    await webhook.arrived.wait()
    await clock.advance(59.9)
    assert not asking.done()
    await clock.advance(0.2)
    assert await asking == Verdict(Outcome.DENY, "", "the webhook w: it did not answer in time")


NOT_SYSTEM = "!('system:masters' in request.groups)"
IN_DEV = "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'dev'"
NO_VALUE = "request.extra['none'][0] == 'x'"


@pytest.mark.parametrize(
    ("conditions", "asked", "outcome"),
    [
        ([], True, Outcome.ALLOW),
        (["true"], True, Outcome.ALLOW),
        ([NOT_SYSTEM, IN_DEV], True, Outcome.ALLOW),
        ([NOT_SYSTEM, "false"], False, Outcome.NO_OPINION),
        (["false", NO_VALUE], False, Outcome.NO_OPINION),
        ([NO_VALUE, "false"], False, Outcome.NO_OPINION),
        ([NO_VALUE], False, Outcome.DENY),
        (["true", NO_VALUE], False, Outcome.DENY),
    ],
)
async def test_conditions_say_what_it_is_asked(conditions: list[str], asked: bool, outcome: Outcome) -> None:
    """§7.6: any false one passes over; else one without a value is a failure; else it is asked."""
    webhook = Says(ALLOWED)
    authorizer = SubjectAccessReviewWebhook(webhook, match_conditions=conditions)
    at_once = authorizer.verdict(GET)
    verdict = await authorizer.authorize(GET)
    assert verdict.outcome is outcome
    assert at_once == (None if asked else verdict)
    assert bool(webhook.asked) is asked
    assert bool(verdict.error) is (outcome is Outcome.DENY)


async def test_condition_without_a_value_follows_the_failure_policy() -> None:
    """§7.6: with NoOpinion the next authorizer is asked, and the error remains where nobody decides."""
    authorizer = SubjectAccessReviewWebhook(
        Says(ALLOWED), name="w", match_conditions=[NO_VALUE], on_failure="NoOpinion"
    )
    verdict = await authorizer.authorize(GET)
    assert verdict.outcome is Outcome.NO_OPINION
    assert verdict.error.startswith("the webhook w: the condition ")
    assert "no such key" in verdict.error


_CONDITIONS = {"true": True, "1 < 2": True, "false": False, "1 > 2": False, NO_VALUE: None, f"!({NO_VALUE})": None}


@given(st.lists(st.sampled_from(sorted(_CONDITIONS)), unique=True, max_size=6), st.sampled_from(["Deny", "NoOpinion"]))
async def test_conditions_in_any_order(conditions: list[str], on_failure: Any) -> None:
    """§7.6, as a property: a false one wins over errors wherever it stands, and errors over true ones."""
    webhook = Says(ALLOWED)
    authorizer = SubjectAccessReviewWebhook(webhook, match_conditions=conditions, on_failure=on_failure)
    verdict = await authorizer.authorize(GET)
    values = [_CONDITIONS[each] for each in conditions]
    assert bool(webhook.asked) is all(values)
    if False in values:
        assert verdict == Verdict(Outcome.NO_OPINION)
    elif None in values:
        assert verdict.outcome is (Outcome.DENY if on_failure == "Deny" else Outcome.NO_OPINION)
        assert verdict.error.count("has no value") == values.count(None)
    else:
        assert verdict.allowed


@pytest.mark.parametrize(
    ("attributes", "expression"),
    [
        (GET, "request.user == 'ann' && request.uid == '7'"),
        (GET, "'devs' in request.groups && request.extra['example.com/team'] == ['a', 'b']"),
        (GET, "!has(request.nonResourceAttributes) && has(request.resourceAttributes)"),
        (GET, "request.resourceAttributes.group == 'apps' && request.resourceAttributes.version == 'v1'"),
        (GET, "request.resourceAttributes.resource == 'deployments' && request.resourceAttributes.subresource != ''"),
        (GET, "request.resourceAttributes.verb in ['get', 'list'] && request.resourceAttributes.name == 'web'"),
        (GET, "!has(request.resourceAttributes.fieldSelector)"),
        (PATH, "request.nonResourceAttributes.path.startsWith('/metrics') && !has(request.resourceAttributes)"),
        (PATH, "request.nonResourceAttributes.verb == 'get' && request.uid == '' && size(request.groups) == 0"),
        (PATH, "size(request.extra) == 0"),
        (
            GET._replace(verb="list", field_selector="spec.nodeName=n1", label_selector="a in (x,y)"),
            "request.resourceAttributes.fieldSelector.requirements.exists(r, r.key == 'spec.nodeName' &&"
            " r.operator == 'In' && r.values == ['n1']) &&"
            " request.resourceAttributes.labelSelector.requirements[0].values.size() == 2",
        ),
    ],
)
async def test_what_conditions_see(attributes: Attributes, expression: str) -> None:
    """The spec of a SubjectAccessReview of v1, its texts all there, also the empty ones; whatever version is sent."""
    webhook = Says(ALLOWED)
    await SubjectAccessReviewWebhook(webhook, version="v1beta1", match_conditions=[expression]).authorize(attributes)
    assert len(webhook.asked) == 1


async def test_conditions_have_a_budget() -> None:
    """Security: callers have many groups; a condition that goes through them for ever is stopped, and has no value."""
    many = Identity("ann", groups=tuple(map(str, range(500))))
    condition = "request.groups.all(a, request.groups.all(b, request.groups.exists(c, c == b)))"
    authorizer = SubjectAccessReviewWebhook(Says(ALLOWED), match_conditions=[condition])
    assert "budget" in (await authorizer.authorize(GET._replace(identity=many))).error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "v2"}, "version: must be one of v1, v1beta1"),
        ({"on_failure": "Allow"}, "on_failure: must be one of Deny, NoOpinion"),
        ({"match_conditions": ["true", " "]}, "match_conditions[1].expression: Required value"),
        ({"match_conditions": ["true", "true"]}, 'match_conditions[1].expression: Duplicate value: "true"'),
        (
            {"match_conditions": ["request.user"]},
            'Invalid value: "request.user": 1:1: must evaluate to bool, not to string',
        ),
        ({"match_conditions": ["request.name == ''"]}, "undefined field 'name'"),
        ({"match_conditions": ["object.x"]}, "match_conditions[0].expression: Invalid value"),
        ({"match_conditions": [f"{n} == 0" for n in range(65)]}, "match_conditions: Too many: 65: must have"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    """Each named with its place, when it is made."""
    with pytest.raises(ConfigurationError) as caught:
        SubjectAccessReviewWebhook(Says(), **options)
    assert message in str(caught.value)


async def test_explanation() -> None:
    """Who decided, or the condition because of which it was not asked."""
    authorizer = SubjectAccessReviewWebhook(Says(ALLOWED), name="w")
    assert await authorizer.explain(GET) == Explanation(Verdict(Outcome.ALLOW, "because"), "the webhook w")
    elsewhere = "the webhook w decides by what is known there: allow it there, or by another authorizer before it"
    for status, outcome, rule in (
        ({"reason": "r"}, Outcome.NO_OPINION, ""),
        ({"denied": True, "reason": "r"}, Outcome.DENY, "the webhook w: r"),
    ):
        explanation = await SubjectAccessReviewWebhook(Says(status), name="w").explain(GET)
        assert explanation == Explanation(Verdict(outcome, "r"), rule, note=elsewhere)
    broken = await SubjectAccessReviewWebhook(Says(error=UpstreamBroken("gone")), name="w").explain(GET)
    assert (broken.rule, broken.note) == (
        "the webhook w",
        "while the webhook w cannot be asked, its failure policy decides: mend it, or let one before it allow it",
    )
    webhook = Says(ALLOWED)
    assert await SubjectAccessReviewWebhook(webhook, name="w", match_conditions=["true", "false"]).explain(
        GET
    ) == Explanation(
        Verdict(Outcome.NO_OPINION),
        misses=(Miss("the webhook w, which is not asked", (("condition", "false", "false"),)),),
        note="the webhook w is asked where its conditions are true: change them, or let another authorizer allow it",
    )
    assert webhook.asked == []


async def test_rules_are_not_known() -> None:
    """As in Kubernetes: a list for `kubectl auth can-i --list` is incomplete, and says why."""
    rules = await SubjectAccessReviewWebhook(Says(), name="w").rules_for(ANN, "dev")
    assert rules == ((), (), True, "the webhook w cannot list what somebody may do")


def samples(authorizer: SubjectAccessReviewWebhook) -> dict[tuple[str, str], float]:
    assert isinstance(authorizer, Source)
    found = list(authorizer.samples())
    assert all(each.labels[0] == ("name", "w") or each.labels[0] == ("name", "webhook") for each in found)
    assert len(found) == 8  # from the beginning, so that an alert sees the first one
    return {(each.name, each.labels[1][1]): each.value for each in found if each.value}


async def test_figures() -> None:
    """Kubernetes' metrics: what became of the questions, which of them others decided, and why some were not asked."""
    webhook = Says(ALLOWED)
    authorizer = SubjectAccessReviewWebhook(
        webhook, name="w", on_failure="NoOpinion", match_conditions=["request.user != 'eve'", NO_VALUE + " || true"]
    )
    await authorizer.authorize(GET)
    await authorizer.authorize(GET)
    webhook.error = UpstreamTimeout("late")
    await authorizer.authorize(PATH)
    webhook.error = UpstreamBroken("gone")
    await authorizer.authorize(PATH)
    await authorizer.authorize(PATH._replace(identity=Identity("eve")))
    strict = SubjectAccessReviewWebhook(webhook, match_conditions=[NO_VALUE])
    await strict.authorize(GET)
    assert samples(authorizer) == {
        ("apiserver_authorization_webhook_evaluations_total", "success"): 1,
        ("apiserver_authorization_webhook_evaluations_total", "timeout"): 1,
        ("apiserver_authorization_webhook_evaluations_total", "error"): 1,
        ("apiserver_authorization_webhook_evaluations_fail_open_total", "timeout"): 1,
        ("apiserver_authorization_webhook_evaluations_fail_open_total", "error"): 1,
        ("apiserver_authorization_match_condition_exclusions_total", "Webhook"): 1,
    }
    assert samples(strict) == {("apiserver_authorization_match_condition_evaluation_errors_total", "Webhook"): 1}


async def test_request_counts_once() -> None:
    """Of two webhooks, one that a request is not for counts it once, also where the other has to be awaited."""
    first, second = Says(ALLOWED), Says(ALLOWED)
    excluding = SubjectAccessReviewWebhook(first, name="w", match_conditions=["request.user != 'eve'"])
    broken = SubjectAccessReviewWebhook(first, name="w", match_conditions=[NO_VALUE], on_failure="NoOpinion")
    union = Union([Union([excluding, broken]), SubjectAccessReviewWebhook(second)])
    for number in range(1, 3):
        asked = PATH._replace(identity=Identity("eve"), path=f"/{number}")
        assert union.verdict(asked) is None
        assert (await union.authorize(asked)).allowed
        assert len(second.asked) == number
        exclusions = {("apiserver_authorization_match_condition_exclusions_total", "Webhook"): number}
        assert samples(excluding) == exclusions
        errors = {("apiserver_authorization_match_condition_evaluation_errors_total", "Webhook"): number}
        assert samples(broken) == errors
    assert first.asked == []


def written(directory: Path, port: int) -> Path:
    path = directory / "authorizer.kubeconfig"
    path.write_text(
        json.dumps(
            {
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{port}/authorize"}}],
                "users": [{"name": "a", "user": {"token": "mine"}}],
            }
        )
    )
    return path


async def test_over_the_wire(tmp_path: Path) -> None:
    """From the kubeconfig file to the verdict."""

    def answer(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /authorize HTTP/1.1\r\n")
        assert b"\r\nauthorization: Bearer mine" in head
        review = json.loads(body)
        allowed = review["spec"]["user"] == "ann"
        return respond(201, body=json.dumps(review | {"status": {"allowed": allowed, "denied": not allowed}}).encode())

    async with ScriptedBackend(answer) as backend:
        authorizer = SubjectAccessReviewWebhook.load(written(tmp_path, backend.port), name="w")
        assert (await authorizer.authorize(GET)).allowed
        assert (await authorizer.authorize(PATH)).outcome is Outcome.DENY
    assert repr(authorizer) == f"SubjectAccessReviewWebhook('w', Webhook(http://127.0.0.1:{backend.port}/authorize))"


async def test_passing_failures_are_tried_again(clock: VirtualClock) -> None:
    """As kube-apiserver: five attempts with pauses that grow, for network errors, 429 and 5xx."""
    replies = [respond(500), respond(503), respond(429), respond(502)]

    def answer(request: bytes) -> bytes:
        if replies:
            return replies.pop(0)
        review = json.loads(request.partition(b"\r\n\r\n")[2])
        return respond(200, body=json.dumps(review | {"status": ALLOWED}).encode())

    async with ScriptedBackend(answer) as backend:
        webhook = Webhook(Remote(f"http://127.0.0.1:{backend.port}", None), retries=Retries(pause=0.0))
        assert (await SubjectAccessReviewWebhook(webhook).authorize(GET)).allowed
        assert len(backend.connections) == 5


_VALUES = st.none() | st.booleans() | st.integers() | st.sampled_from(["true", "", "x"]) | st.just([True])


@given(
    st.fixed_dictionaries({}, optional={"allowed": _VALUES, "denied": _VALUES, "reason": _VALUES, "x": _VALUES})
    | _VALUES
)
async def test_no_answer_but_allowed_allows(status: Any) -> None:
    """Security, as a property: only `allowed: true` without any denial allows."""
    denied = status.get("denied") if isinstance(status, dict) else True
    means = isinstance(status, dict) and status.get("allowed") is True and (denied is None or denied is False)
    assert (await said(status)).allowed is means
