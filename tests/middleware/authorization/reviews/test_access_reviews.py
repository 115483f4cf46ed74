"""The access review kinds: what may be asked, and what is answered."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from aggmw.contracts.authorization import (
    Attributes,
    Authorizer,
    NonResourceRule,
    Outcome,
    ResourceRule,
    Rules,
    Verdict,
)
from aggmw.contracts.identity import Identity
from aggmw.contracts.kinds import WriteContext
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import StatusError
from aggmw.middleware.authorization import (
    AllowAll,
    LocalSubjectAccessReviews,
    SelfSubjectAccessReviews,
    SelfSubjectRulesReviews,
    SubjectAccessReviews,
    access_reviews,
)

ANN = Identity("ann", "7", ("devs", "system:authenticated"), {"example.com/team": ("a",)})
CONTEXT = WriteContext(ANN, RequestInfo(True, "create", "POST", "/", b"/"))
IN_DEV = WriteContext(ANN, RequestInfo(True, "create", "POST", "/", b"/", namespace="dev"))
GET_POD = {"verb": "get", "version": "v1", "resource": "pods", "namespace": "dev", "name": "p"}


BECAUSE = Verdict(Outcome.ALLOW, "because")


class Scripted:
    """Answers with one verdict, and remembers what it was asked."""

    def __init__(self, verdict: Verdict | Exception = BECAUSE) -> None:
        self.asked: list[Attributes] = []
        self._verdict = verdict

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.asked.append(attributes)
        if isinstance(self._verdict, Exception):
            raise self._verdict
        return self._verdict


class Lister(Scripted):
    """Lists the same for everybody."""

    def __init__(self, rules: Rules | Exception) -> None:
        super().__init__()
        self.listed: list[tuple[Identity, str]] = []
        self._rules = rules

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        self.listed.append((identity, namespace))
        if isinstance(self._rules, Exception):
            raise self._rules
        return self._rules


async def status_of(kind: Any, spec: dict[str, Any], context: WriteContext = CONTEXT, **others: Any) -> dict[str, Any]:
    value = {"apiVersion": "authorization.k8s.io/v1", "kind": kind.resource.kind.kind, "spec": spec, **others}
    answer = await kind.create(value, context)
    assert {**answer, "status": None, "metadata": None} == {**value, "status": None, "metadata": None}
    status: dict[str, Any] = answer["status"]
    return status


async def refusal(kind: Any, spec: dict[str, Any], context: WriteContext = CONTEXT, **others: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await status_of(kind, spec, context, **others)
    return caught.value


def mistakes(error: StatusError) -> list[str]:
    """The causes of a 422, as its message has them."""
    assert (error.code, error.reason, error.details is not None) == (422, "Invalid", True)
    found = [f"{each['field']}: {each['message']}" for each in (error.details or {})["causes"]]
    assert all(each in error.message for each in found)
    return found


async def test_what_is_asked_about_a_resource() -> None:
    """Everything that the review says; what it does not say is empty, and the version any."""
    authorizer = Scripted()
    everything = {
        "verb": "update",
        "group": "apps",
        "version": "v1",
        "resource": "deployments",
        "subresource": "scale",
        "namespace": "dev",
        "name": "d",
    }
    spec = {"user": "bob", "groups": ["b", "a"], "uid": "9", "extra": {"Team": ["x"], "team": ["y"]}}
    kind = SubjectAccessReviews(authorizer)
    await status_of(kind, {**spec, "resourceAttributes": everything})
    bob = Identity("bob", "9", ("b", "a"), {"team": ("x", "y")})
    assert authorizer.asked.pop() == Attributes(
        bob, "update", True, "apps", "v1", "deployments", "scale", "dev", "d", "", "", ""
    )
    await status_of(kind, {"user": "bob", "resourceAttributes": {"verb": "list", "resource": "pods"}})
    assert authorizer.asked.pop() == Attributes(Identity("bob"), "list", True, "", "*", "pods")


async def test_what_is_asked_about_a_path() -> None:
    """Path and verb as they are."""
    authorizer = Scripted()
    spec = {"user": "bob", "nonResourceAttributes": {"path": "/logs/", "verb": "get"}}
    await status_of(SubjectAccessReviews(authorizer), spec)
    assert authorizer.asked == [Attributes(Identity("bob"), "get", False, path="/logs/")]


async def test_self_is_the_caller() -> None:
    """With uid, groups and extra; what the spec says of a user is not looked at."""
    authorizer = Scripted()
    await status_of(SelfSubjectAccessReviews(authorizer), {"resourceAttributes": GET_POD, "user": "root"})
    assert authorizer.asked[0].identity == ANN


async def test_groups_are_taken_as_they_are() -> None:
    """Nobody is put into `system:authenticated`; groups alone are a question too, about nobody in particular."""
    authorizer = Scripted()
    await status_of(SubjectAccessReviews(authorizer), {"groups": ["devs"], "resourceAttributes": GET_POD})
    assert authorizer.asked[0].identity == Identity("system:nameless", groups=("devs",))


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict(Outcome.ALLOW, "because"), {"allowed": True, "reason": "because"}),
        (Verdict(Outcome.ALLOW), {"allowed": True}),
        (Verdict(Outcome.DENY, "never"), {"allowed": False, "denied": True, "reason": "never"}),
        (Verdict(Outcome.NO_OPINION), {"allowed": False}),
        (Verdict(Outcome.NO_OPINION, "who?"), {"allowed": False, "reason": "who?"}),
        (Verdict(Outcome.NO_OPINION, error="no answer"), {"allowed": False, "evaluationError": "no answer"}),
        (Verdict(Outcome.ALLOW, error="no answer"), {"allowed": True, "evaluationError": "no answer"}),
    ],
)
async def test_status(verdict: Verdict, status: dict[str, Any]) -> None:
    """`allowed` is always there; `denied` only where an authorizer said no; nothing empty."""
    for kind in (SubjectAccessReviews(Scripted(verdict)), SelfSubjectAccessReviews(Scripted(verdict))):
        assert await status_of(kind, {"user": "bob", "resourceAttributes": GET_POD}) == status


async def test_verdicts_at_once() -> None:
    """An authorizer that can say it at once is asked so; what it leaves open is awaited."""

    class Quick(Scripted):
        def verdict(self, attributes: Attributes) -> Verdict | None:
            return Verdict(Outcome.ALLOW, "at once") if attributes.verb == "get" else None

    kind = SelfSubjectAccessReviews(Quick())
    assert (await status_of(kind, {"resourceAttributes": GET_POD}))["reason"] == "at once"
    assert (await status_of(kind, {"resourceAttributes": GET_POD | {"verb": "list"}}))["reason"] == "because"


async def test_no_verb_is_denied() -> None:
    """As the stage does it: no authorizer is asked."""
    authorizer = Scripted()
    kind = SelfSubjectAccessReviews(authorizer)
    assert await status_of(kind, {"nonResourceAttributes": {"path": "/"}}) == {"allowed": False, "denied": True}
    assert authorizer.asked == []


async def test_authorizer_that_fails_allows_nothing() -> None:
    """Security: fail closed, and not a word of what it raised; the log has it."""
    with capture_logs() as logs:
        status = await status_of(
            SelfSubjectAccessReviews(Scripted(RuntimeError("t0p-secret"))), {"resourceAttributes": GET_POD}
        )
    assert status == {"allowed": False, "evaluationError": "the authorizer failed"}
    assert [each["event"] for each in logs] == ["authorizer failed"]


@pytest.mark.parametrize(
    "spec", [{"user": "bob\n"}, {"user": " bob"}, {"groups": [""]}, {"user": "bob", "extra": {"": ["x"]}}]
)
async def test_callers_that_cannot_be(spec: dict[str, Any]) -> None:
    """Security: who could not come here is allowed nothing here, whatever the policy says."""
    status = await status_of(SubjectAccessReviews(AllowAll()), {**spec, "resourceAttributes": GET_POD})
    assert status["allowed"] is False
    assert status["evaluationError"].startswith("no request comes from this caller: ")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"user": "bob"},
            ["spec: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"],
        ),
        (
            {"user": "bob", "resourceAttributes": {}, "nonResourceAttributes": {"path": "/", "verb": "get"}},
            [
                'spec: Invalid value: {"path":"/","verb":"get"}: exactly one of nonResourceAttributes or'
                " resourceAttributes must be specified"
            ],
        ),
        (
            {"resourceAttributes": GET_POD},
            ['spec.user: Invalid value: "": at least one of user or group must be specified'],
        ),
        (
            {},
            [
                "spec: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be"
                " specified",
                'spec.user: Invalid value: "": at least one of user or group must be specified',
            ],
        ),
    ],
)
async def test_specs_with_mistakes(spec: dict[str, Any], expected: list[str]) -> None:
    """422 with all of them, in Kubernetes' words."""
    assert mistakes(await refusal(SubjectAccessReviews(AllowAll()), spec)) == expected


async def test_self_needs_something_to_ask_too() -> None:
    """Exactly one of the two; a user is not needed."""
    kind = SelfSubjectAccessReviews(AllowAll())
    error = await refusal(kind, {})
    assert error.message.startswith('SelfSubjectAccessReview.authorization.k8s.io "" is invalid: spec: ')
    assert len(mistakes(await refusal(kind, {"resourceAttributes": {}, "nonResourceAttributes": {}}))) == 1


@pytest.mark.parametrize("kind", [SubjectAccessReviews(AllowAll()), SelfSubjectAccessReviews(AllowAll())])
async def test_metadata_is_empty(kind: Any) -> None:
    """What is not stored has no name; what a server would have written by itself does not count."""
    spec = {"user": "bob", "resourceAttributes": GET_POD}
    expected = ['metadata: Invalid value: {"name":"x"}: must be empty']
    assert mistakes(await refusal(kind, spec, metadata={"name": "x"})) == expected
    assert mistakes(await refusal(kind, spec, metadata={"name": "x", "namespace": "dev"})) == expected
    for metadata in ({}, {"name": "", "labels": {}}, {"managedFields": [{"manager": "x"}]}, {"namespace": "dev"}):
        assert (await status_of(kind, spec, metadata=metadata))["allowed"] is True


async def test_local() -> None:
    """The answer is about the namespace that it was created in, and says so."""
    authorizer = Scripted()
    kind = LocalSubjectAccessReviews(authorizer)
    spec = {"user": "bob", "resourceAttributes": GET_POD}
    value = {"apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview", "spec": spec}
    for metadata in ({}, {"namespace": "dev"}):
        answer = await kind.create({**value, "metadata": metadata}, IN_DEV)
        assert (answer["metadata"], answer["status"]["allowed"]) == ({"namespace": "dev"}, True)
    assert [each.namespace for each in authorizer.asked] == ["dev", "dev"]


@pytest.mark.parametrize("namespace", ["prod", "", None])
async def test_local_is_about_its_namespace(namespace: str | None) -> None:
    """Security: who may ask about one namespace learns nothing of others."""
    asked = {key: each for key, each in (GET_POD | {"namespace": namespace}).items() if each is not None}
    error = await refusal(LocalSubjectAccessReviews(AllowAll()), {"user": "bob", "resourceAttributes": asked}, IN_DEV)
    shown = namespace or ""
    assert mistakes(error) == [
        f'spec.resourceAttributes.namespace: Invalid value: "{shown}": must match metadata.namespace'
    ]


async def test_local_knows_no_paths() -> None:
    """Paths are in no namespace."""
    spec = {"user": "bob", "nonResourceAttributes": {"path": "/", "verb": "get"}}
    assert mistakes(await refusal(LocalSubjectAccessReviews(AllowAll()), spec, IN_DEV)) == [
        'spec.nonResourceAttributes: Invalid value: {"path":"/","verb":"get"}: disallowed on this kind of request'
    ]


async def test_local_of_another_namespace() -> None:
    """400 where the object says another namespace than the request; 422 for more metadata than that."""
    kind, spec = LocalSubjectAccessReviews(AllowAll()), {"user": "bob", "resourceAttributes": GET_POD}
    error = await refusal(kind, spec, IN_DEV, metadata={"namespace": "prod"})
    assert (error.code, error.message) == (
        400,
        "the namespace of the provided object does not match the namespace sent on the request",
    )
    error = await refusal(kind, spec, IN_DEV, metadata={"namespace": "dev", "name": "x"})
    assert mistakes(error) == [
        'metadata: Invalid value: {"namespace":"dev","name":"x"}: must be empty except for namespace'
    ]


# Selectors


async def selectors(verb: str = "list", **selectors: Any) -> tuple[str, str, str]:
    """What the authorizer is asked, and what the status says of it."""
    authorizer = Scripted()
    asked = {"verb": verb, "resource": "pods", **selectors}
    status = await status_of(SelfSubjectAccessReviews(authorizer), {"resourceAttributes": asked})
    return authorizer.asked[0].field_selector, authorizer.asked[0].label_selector, status.get("evaluationError", "")


@pytest.mark.parametrize("verb", ["list", "watch", "deletecollection"])
async def test_raw_selectors(verb: str) -> None:
    """In the spelling that a request's have."""
    found = await selectors(
        verb, fieldSelector={"rawSelector": "b==2,a!=1"}, labelSelector={"rawSelector": "y notin (2,1), x"}
    )
    assert found == ("a!=1,b=2", "x,y notin (1,2)", "")


async def test_required_selectors() -> None:
    """One by one, in the same spelling."""
    fields = [{"key": "b", "operator": "In", "values": ["2"]}, {"key": "a", "operator": "NotIn", "values": ["1"]}]
    labels = [{"key": "y", "operator": "NotIn", "values": ["2", "1"]}, {"key": "x", "operator": "Exists"}]
    found = await selectors(fieldSelector={"requirements": fields}, labelSelector={"requirements": labels})
    assert found == ("a!=1,b=2", "x,y notin (1,2)", "")


async def test_what_does_not_parse_limits_nothing() -> None:
    """A raw selector that does not parse is no error: the whole collection is asked for, and the answer says so."""
    found = await selectors(fieldSelector={"rawSelector": "a"}, labelSelector={"rawSelector": "a="})
    assert found == ("", "a=", "spec.resourceAttributes.fieldSelector ignored due to parse error")
    found = await selectors(fieldSelector={"rawSelector": "a"}, labelSelector={"rawSelector": "("})
    assert found[2] == (
        "spec.resourceAttributes.fieldSelector ignored due to parse error;"
        " spec.resourceAttributes.labelSelector ignored due to parse error"
    )


async def test_operators_that_are_not_known() -> None:
    """A newer client may know them: they limit nothing, the others do."""
    newer = {"key": "a", "operator": "Matches", "values": ["1"]}
    known = {"key": "b", "operator": "In", "values": ["2"]}
    partially = "spec.resourceAttributes.labelSelector partially ignored due to parse error"
    assert await selectors(labelSelector={"requirements": [newer, known]}) == ("", "b=2", partially)
    ignored = "spec.resourceAttributes.fieldSelector ignored due to parse error"
    assert await selectors(fieldSelector={"requirements": [newer]}) == ("", "", ignored)
    order = {"key": "a", "operator": "GreaterThan", "values": ["1"]}
    assert (await selectors(labelSelector={"requirements": [order]}))[1] == ""


async def test_selectors_of_other_verbs() -> None:
    """A request of another verb has none, so neither has a review."""
    found = await selectors("get", fieldSelector={"rawSelector": "a=1"})
    note = "spec.resourceAttributes.fieldSelector ignored: only list, watch and deletecollection have selectors"
    assert found == ("", "", note)


FIELDS, LABELS = "spec.resourceAttributes.fieldSelector", "spec.resourceAttributes.labelSelector"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (
            {"rawSelector": "a=1", "requirements": [{"key": "a", "operator": "In", "values": ["1"]}]},
            [
                f'{FIELDS}.rawSelector: Invalid value: "a=1": may not specified at the same time as requirements',
                f'{LABELS}.rawSelector: Invalid value: "a=1": may not specified at the same time as requirements',
            ],
        ),
        (
            {},
            [
                f"{FIELDS}.requirements: Required value: when {FIELDS} is specified, requirements or rawSelector is"
                " required",
                f"{LABELS}.requirements: Required value: when {LABELS} is specified, requirements or rawSelector is"
                " required",
            ],
        ),
        (
            {"requirements": [{"key": "a", "operator": "NotIn"}]},
            [
                f"{path}.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
                for path in (FIELDS, LABELS)
            ],
        ),
        (
            {"requirements": [{"key": "a", "operator": "Exists", "values": ["1"]}]},
            [
                f"{path}.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or"
                " 'DoesNotExist'"
                for path in (FIELDS, LABELS)
            ],
        ),
        (
            {"requirements": [{"key": "a=b", "operator": "In", "values": ["x;"]}]},
            [
                f'{LABELS}.requirements[0].key: Invalid value: "a=b": is no label: write NAME or DOMAIN/NAME, as'
                " example.com/team",
                f'{LABELS}.requirements[0].values[0]: Invalid value: "x;": is no value of a label: up to 63 letters,'
                " digits, '-', '_' and '.', letters or digits at the ends",
            ],
        ),
        (
            {"requirements": [{}]},
            [
                f"{FIELDS}.requirements[0].key: Required value: must be specified",
                f'{LABELS}.requirements[0].key: Invalid value: "": is no label: write NAME or DOMAIN/NAME, as'
                " example.com/team",
            ],
        ),
    ],
)
async def test_selectors_with_mistakes(selector: dict[str, Any], expected: list[str]) -> None:
    """422, in Kubernetes' words; unknown operators are none."""
    asked = {"verb": "list", "resource": "pods", "fieldSelector": selector, "labelSelector": selector}
    error = await refusal(SelfSubjectAccessReviews(AllowAll()), {"resourceAttributes": asked})
    assert mistakes(error) == expected


async def test_selectors_as_long_as_a_book() -> None:
    """Security: they cost no more than a request could: few are read, and few mistakes are told."""
    many = [{"key": "a", "operator": "In"}] * 1001
    asked = {"verb": "list", "resource": "pods", "fieldSelector": {"requirements": many}}
    error = await refusal(SelfSubjectAccessReviews(AllowAll()), {"resourceAttributes": asked})
    assert mistakes(error) == [f"{FIELDS}.requirements: Too many: 1001: must have at most 1000 items"]
    asked["fieldSelector"] = {"requirements": many[:1000]}
    assert len(mistakes(await refusal(SelfSubjectAccessReviews(AllowAll()), {"resourceAttributes": asked}))) == 50
    ignored = "spec.resourceAttributes.labelSelector ignored due to parse error"
    assert await selectors(labelSelector={"rawSelector": "a=1," * 20_000 + "b"}) == ("", "", ignored)


@pytest.mark.parametrize(
    "more",
    [
        {"groups": ["g"] * 40_000},
        {"extra": {str(number): [] for number in range(20_000)}},
        {"extra": {"rawSelector": [""] * 70_000}},
        {"uid": "u" * 70_000},
        {"resourceAttributes": {"verb": "get", "name": "n" * 70_000}},
        {"resourceAttributes": {"verb": "list", "labelSelector": {"requirements": [{"values": ["a"] * 40_000}]}}},
    ],
)
async def test_longer_than_a_request(more: dict[str, Any]) -> None:
    """Security: what no request has room for is no question, and nobody is asked about it."""
    authorizer = Scripted()
    spec = {"user": "bob", "resourceAttributes": {"verb": "get"}, **more}
    error = await refusal(SubjectAccessReviews(authorizer), spec)
    assert (error.code, mistakes(error)) == (422, ["spec: Too long: may not be more than 65536 characters"])
    assert not authorizer.asked


# Rules


async def test_rules() -> None:
    """What the authorizer lists for the caller in the namespace; lists are there even when they are empty."""
    lister = Lister(
        Rules(
            [ResourceRule(("get", "list"), ("", "apps"), ("pods",)), ResourceRule(("*",), ("*",), ("*",), ("one",))],
            [NonResourceRule(("get",), ("/healthz", "/api/*"))],
        )
    )
    assert await status_of(SelfSubjectRulesReviews(lister), {"namespace": "dev"}) == {
        "resourceRules": [
            {"verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["pods"]},
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["one"]},
        ],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}],
        "incomplete": False,
    }
    assert lister.listed == [(ANN, "dev")]
    assert await status_of(SelfSubjectRulesReviews(Lister(Rules())), {"namespace": "dev"}) == {
        "resourceRules": [],
        "nonResourceRules": [],
        "incomplete": False,
    }


@pytest.mark.parametrize(
    ("authorizer", "error"),
    [
        (Scripted(), "the authorizer cannot list what it allows: ask for one thing at a time"),
        (Lister(Rules(incomplete=True, error="half of it")), "half of it"),
        (Lister(RuntimeError("t0p-secret")), "the authorizer failed"),
    ],
)
async def test_rules_that_are_not_all(authorizer: Authorizer, error: str) -> None:
    """Incomplete, and why."""
    assert await status_of(SelfSubjectRulesReviews(authorizer), {"namespace": "dev"}) == {
        "resourceRules": [],
        "nonResourceRules": [],
        "incomplete": True,
        "evaluationError": error,
    }


async def test_very_many_rules() -> None:
    """A list as long as a book is cut, and says so: writing it would hold up everybody else."""
    rules = Rules([ResourceRule(("get",), ("",), ("pods",), (str(number),)) for number in range(2_001)])
    status = await status_of(SelfSubjectRulesReviews(Lister(rules)), {"namespace": "dev"})
    assert (len(status["resourceRules"]), status["incomplete"]) == (2_000, True)
    assert status["evaluationError"] == "only the first 2000 rules are listed"


@pytest.mark.parametrize("spec", [{}, {"namespace": ""}])
async def test_rules_without_a_namespace(spec: dict[str, Any]) -> None:
    """400, in Kubernetes' words."""
    error = await refusal(SelfSubjectRulesReviews(AllowAll()), spec)
    assert (error.code, error.reason, error.message) == (400, "BadRequest", "no namespace on request")


def test_mistakes_of_the_embedder() -> None:
    """They show when the kinds are made."""
    for authorizer in (AllowAll, object()):
        with pytest.raises(TypeError, match="authorizer"):
            access_reviews(authorizer)  # type: ignore[arg-type]  # what it is told of
