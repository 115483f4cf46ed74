"""Kubernetes' `AuthorizationConfiguration` file: read as it is, again when it changes, every mistake at once (§7.6)."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from aggmw.contracts.authorization import Attributes, Outcome
from aggmw.contracts.identity import Identity
from aggmw.contracts.metrics import Source
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import (
    AllowAll,
    AuthorizationConfiguration,
    CasbinAuthorizer,
    ConfiguredAuthorizers,
    DenyAll,
    SubjectAccessReviewWebhook,
)
from aggmw.testing import ScriptedBackend, VirtualClock, respond

GROUP = "apiserver.config.k8s.io"
ANN = Identity("ann", groups=("devs",))
POLICY = "p, user:ann, get, apps, deployments, dev, *\n"
CASBIN = {"Casbin": CasbinAuthorizer.from_text(POLICY)}
ASKED = Attributes(ANN, "list", True, "apps", "v1", "deployments", "", "dev")


def kubeconfig(directory: Path, port: int = 9) -> Path:
    path = directory / "authz.kubeconfig"
    whole = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{port}/authorize"}}],
    }
    path.write_text(json.dumps(whole))
    return path


def webhook(name: str = "authz.example.com", **changes: Any) -> dict[str, Any]:
    """An entry as Kubernetes' documentation has it; None takes a field of `webhook` away."""
    fields: dict[str, Any] = {
        "authorizedTTL": "30s",
        "unauthorizedTTL": "30s",
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "authz.kubeconfig"},
        "matchConditions": [
            {"expression": "has(request.resourceAttributes)"},
            {"expression": "request.resourceAttributes.namespace == 'dev'"},
            {"expression": "!('system:serviceaccounts:kube-system' in request.groups)"},
        ],
    }
    given = {key: value for key, value in (fields | changes).items() if value is not None}
    return {"type": "Webhook", "name": name, "webhook": given}


def written(directory: Path, *authorizers: Any, version: str = "v1", **top: Any) -> Path:
    kubeconfig(directory)
    path = directory / "authz.yaml"
    whole = {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "AuthorizationConfiguration",
        "authorizers": list(authorizers),
    }
    path.write_text(json.dumps(whole | top))
    return path


def mistakes(path: Path, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        AuthorizationConfiguration.load(path, **options)
    assert all(each.path.startswith(str(path.parent)) for each in caught.value.problems)
    return str(caught.value).replace(f"{path}: ", "")


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
def test_whole_file(tmp_path: Path, version: str) -> None:
    """Every type that there is, in the order of the file, in each version."""
    entries = (webhook(), {"type": "Casbin", "name": "casbin"}, {"type": "AlwaysDeny", "name": "last"})
    found = AuthorizationConfiguration.load(written(tmp_path, *entries, version=version), known=CASBIN)
    assert [(each.name, each.type, type(each.authorizer)) for each in found.authorizers] == [
        ("authz.example.com", "Webhook", SubjectAccessReviewWebhook),
        ("casbin", "Casbin", CasbinAuthorizer),
        ("last", "AlwaysDeny", DenyAll),
    ]
    assert found.authorizers[1].authorizer is CASBIN["Casbin"]
    allowed = AuthorizationConfiguration.load(written(tmp_path, {"type": "AlwaysAllow", "name": "all"}))
    assert isinstance(allowed.authorizers[0].authorizer, AllowAll)


async def test_file_of_the_documentation(tmp_path: Path) -> None:
    """YAML with comments, as it is written for kube-apiserver; RBAC is whatever stands for it here."""
    kubeconfig(tmp_path)
    path = tmp_path / "authz.yaml"
    path.write_text(
        f"""\
# DO NOT USE THE CONFIG AS IS. THIS IS AN EXAMPLE.
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: webhook
  webhook:
    authorizedTTL: 30s
    unauthorizedTTL: 30s
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo:
      type: KubeConfigFile
      kubeConfigFile: {tmp_path}/authz.kubeconfig
    matchConditions:
    # only send resource requests to the webhook
    - expression: has(request.resourceAttributes)
    # only intercept requests to kube-system
    - expression: request.resourceAttributes.namespace == 'kube-system'
    # don't intercept requests from kube-system service accounts
    - expression: "!('system:serviceaccounts:kube-system' in request.groups)"
- type: RBAC
  name: rbac
"""
    )
    union = ConfiguredAuthorizers(path, known={"RBAC": AllowAll()})
    explanation = await union.explain(ASKED)
    assert [(name, verdict.outcome) for name, verdict in explanation.opinions] == [
        ("webhook", Outcome.NO_OPINION),
        ("rbac", Outcome.ALLOW),
    ]


async def test_order_of_the_file_decides(tmp_path: Path) -> None:
    """The same two authorizers either way round."""
    casbin, last = {"type": "Casbin", "name": "casbin"}, {"type": "AlwaysDeny", "name": "last"}
    get = ASKED._replace(verb="get", name="web")
    for entries, allowed in (((casbin, last), True), ((last, casbin), False)):
        union = ConfiguredAuthorizers(written(tmp_path, *entries), known=CASBIN)
        assert (await union.authorize(get)).allowed is allowed


async def test_webhook_as_it_is_configured(tmp_path: Path) -> None:
    """Its version, its conditions, its lifetimes, its time and its failure policy all come from the file."""

    def answer(request: bytes) -> bytes:
        review = json.loads(request.partition(b"\r\n\r\n")[2])
        assert review["apiVersion"] == "authorization.k8s.io/v1beta1"
        assert review["spec"]["group"] == ["devs"]
        return respond(200, body=json.dumps(review | {"status": {"allowed": True}}).encode())

    async with ScriptedBackend(answer) as backend:
        path = written(
            tmp_path,
            webhook(subjectAccessReviewVersion="v1beta1", cacheAuthorizedRequests=False, failurePolicy="NoOpinion"),
        )
        kubeconfig(tmp_path, backend.port)
        union = ConfiguredAuthorizers(path)
        for _ in range(2):
            assert (await union.authorize(ASKED)).allowed
        assert len(backend.connections) == 2
        assert (await union.authorize(ASKED._replace(namespace="prod"))).outcome is Outcome.NO_OPINION
        assert len(backend.connections) == 2


@pytest.mark.parametrize(
    ("changes", "authorized", "unauthorized"),
    [
        ({}, 30.0, 30.0),
        ({"authorizedTTL": None, "unauthorizedTTL": None}, 300.0, 30.0),
        ({"authorizedTTL": "1h30m", "unauthorizedTTL": "1.5s"}, 5400.0, 1.5),
        ({"cacheAuthorizedRequests": False}, 0.0, 30.0),
        ({"cacheUnauthorizedRequests": False}, 30.0, 0.0),
        ({"cacheAuthorizedRequests": True, "cacheUnauthorizedRequests": True}, 30.0, 30.0),
    ],
)
async def test_lifetimes(tmp_path: Path, changes: dict[str, Any], authorized: float, unauthorized: float) -> None:
    """As Kubernetes' defaults are; switched off each for itself."""
    for allowed, seconds in ((True, authorized), (False, unauthorized)):

        def answer(request: bytes, allowed: bool = allowed) -> bytes:
            review = json.loads(request.partition(b"\r\n\r\n")[2])
            return respond(200, body=json.dumps(review | {"status": {"allowed": allowed}}).encode())

        async with ScriptedBackend(answer) as backend:
            path = written(tmp_path, webhook(**changes))
            kubeconfig(tmp_path, backend.port)
            [entry] = AuthorizationConfiguration.load(path).authorizers
            assert isinstance(entry.authorizer, SubjectAccessReviewWebhook)
            assert (entry.authorizer.authorized_seconds, entry.authorizer.unauthorized_seconds) == (
                authorized,
                unauthorized,
            )
            for _ in range(2):
                await entry.authorizer.authorize(ASKED)
            assert len(backend.connections) == (1 if seconds else 2)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ({"kind": "AuthenticationConfiguration"}, "kind: must be AuthorizationConfiguration"),
        ({"apiVersion": f"{GROUP}/v2"}, f"apiVersion: must be {GROUP}/v1 or {GROUP}/v1beta1 or {GROUP}/v1alpha1"),
        ({"authorizers": []}, "authorizers: Required value: at least one authorization mode must be defined"),
        ({"authorizers": {}}, "authorizers: must be a list, not an object"),
        ({"authorizer": []}, "authorizer: unknown field"),
    ],
)
def test_mistakes_at_the_top(tmp_path: Path, top: dict[str, Any], message: str) -> None:
    """Each with its place."""
    assert message in mistakes(written(tmp_path, {"type": "AlwaysDeny", "name": "a"}, **top))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "b"}, "authorizers[1].type: Required value"),
        ({"type": "AlwaysAllow"}, "authorizers[1].name: Required value"),
        ({"type": "AlwaysAllow", "name": "a"}, 'authorizers[1].name: Duplicate value: "a"'),
        ({"type": "AlwaysAllow", "name": "B"}, 'authorizers[1].name: Invalid value: "B": must be a DNS-1123 subdomain'),
        ({"type": "AlwaysDeny", "name": "b"}, 'authorizers[1].type: Duplicate value: "AlwaysDeny"'),
        (
            {"type": "rbac", "name": "b"},
            'authorizers[1].type: Unsupported value: "rbac": supported values: AlwaysAllow',
        ),
        ({"type": "Node", "name": "b"}, 'authorizers[1].type: Invalid value: "Node": there are no nodes here'),
        ({"type": "ABAC", "name": "b"}, 'authorizers[1].type: Invalid value: "ABAC": its policy files are not read'),
        ({"type": "RBAC", "name": "b"}, "there is no policy for it: give authorization.rbac"),
        ({"type": "Casbin", "name": "b"}, "there is no policy for it: give authorization.policy"),
        ({"type": "AlwaysAllow", "name": "b", "x": 1}, "authorizers[1].x: unknown field"),
        ({"type": "AlwaysAllow", "name": "b", "webhook": {}}, "authorizers[1].webhook: Invalid value: may only be"),
        ({"type": "Webhook", "name": "b"}, "authorizers[1].webhook: Required value: required when type=Webhook"),
        ("AlwaysAllow", "authorizers[1]: must be an object"),
    ],
)
def test_mistakes_in_an_authorizer(tmp_path: Path, entry: Any, message: str) -> None:
    """Kubernetes' rules for types and names; what cannot be had here is refused with the reason, not left out."""
    assert message in mistakes(written(tmp_path, {"type": "AlwaysDeny", "name": "a"}, entry))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timeout": None}, "timeout: Required value"),
        ({"timeout": "31s"}, 'timeout: Invalid value: "31s": must be > 0s and <= 30s'),
        ({"timeout": "0s"}, 'timeout: Invalid value: "0s": must be > 0s'),
        ({"timeout": "-1s"}, 'timeout: Invalid value: "-1s": must be > 0s'),
        ({"timeout": 3}, "timeout: must be a text, not a whole number"),
        ({"timeout": "soon"}, 'timeout: Invalid value: "soon": must be a duration such as 3s or 5m0s'),
        ({"authorizedTTL": "0s"}, 'authorizedTTL: Invalid value: "0s": must be > 0s'),
        ({"unauthorizedTTL": "-5m"}, 'unauthorizedTTL: Invalid value: "-5m": must be > 0s'),
        ({"cacheAuthorizedRequests": "no"}, "cacheAuthorizedRequests: must be true or false, not a text"),
        ({"subjectAccessReviewVersion": None}, "subjectAccessReviewVersion: Required value"),
        ({"subjectAccessReviewVersion": "v2"}, 'Unsupported value: "v2": supported values: v1, v1beta1'),
        ({"matchConditionSubjectAccessReviewVersion": None}, "ConditionSubjectAccessReviewVersion: Required value"),
        ({"matchConditionSubjectAccessReviewVersion": "v1beta1"}, 'Unsupported value: "v1beta1": supported values: v1'),
        ({"failurePolicy": None}, "failurePolicy: Required value"),
        ({"failurePolicy": "Allow"}, 'failurePolicy: Unsupported value: "Allow": supported values: Deny, NoOpinion'),
        ({"connectionInfo": None}, "connectionInfo.type: Required value"),
        ({"connectionInfo": {}}, "connectionInfo.type: Required value"),
        ({"connectionInfo": {"type": "Url"}}, 'connectionInfo.type: Unsupported value: "Url"'),
        ({"connectionInfo": {"type": "InClusterConfig"}}, 'type: Invalid value: "InClusterConfig": there is no'),
        ({"connectionInfo": {"type": "KubeConfigFile"}}, "connectionInfo.kubeConfigFile: Required value"),
        ({"connectionInfo": {"type": "KubeConfigFile", "url": "x"}}, "connectionInfo.url: unknown field"),
        ({"matchConditions": [{"expression": ""}]}, "matchConditions[0].expression: Required value"),
        ({"matchConditions": [{}]}, "matchConditions[0].expression: Required value"),
        ({"matchConditions": [{"expression": "true"}] * 2}, "matchConditions[1].expression: Duplicate value"),
        ({"matchConditions": [{"expression": "request.user"}]}, "1:1: must evaluate to bool, not to string"),
        ({"matchConditions": [{"expression": "x"}]}, "matchConditions[0].expression: Invalid value: \"x\": 1:1:"),
        ({"matchConditions": [{"expression": "true", "name": "x"}]}, "matchConditions[0].name: unknown field"),
        ({"matchConditions": [{"expression": f"{n}==1"} for n in range(65)]}, "matchConditions: Too many: 65"),
        ({"ttl": "1s"}, "ttl: unknown field"),
    ],
)  # fmt: skip
def test_mistakes_in_a_webhook(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Kubernetes' rules for every field, each with its path."""
    text = mistakes(written(tmp_path, webhook(**changes)))
    assert message in text
    assert text.startswith("authorizers[0].webhook.")


def test_conditions_are_not_needed(tmp_path: Path) -> None:
    """Without them nothing is said of their version."""
    entry = webhook(matchConditions=None, matchConditionSubjectAccessReviewVersion=None)
    assert len(AuthorizationConfiguration.load(written(tmp_path, entry)).authorizers) == 1


def test_mistakes_in_the_kubeconfig(tmp_path: Path) -> None:
    """Named with their own file."""
    path = written(tmp_path, webhook())
    (tmp_path / "authz.kubeconfig").write_text("current-context: x\n")
    assert "authz.kubeconfig: current-context: names a context that is not in contexts" in mistakes(path)
    (tmp_path / "authz.kubeconfig").unlink()
    assert "authz.kubeconfig: cannot be read" in mistakes(path)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """One pass tells everything."""
    text = mistakes(
        written(
            tmp_path,
            webhook(timeout="40s", failurePolicy="x"),
            {"type": "Node", "name": "node"},
            {"type": "AlwaysDeny"},
            webhook(timeout=None),
        )
    )
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "authorizers[0].webhook.timeout",
        "authorizers[0].webhook.failurePolicy",
        "authorizers[1].type",
        "authorizers[2].name",
        "authorizers[3].name",
        "authorizers[3].webhook.timeout",
    ]


def test_policy_that_nobody_asks(tmp_path: Path) -> None:
    """Security: a policy is configured and the file leaves it out: what it denies would be allowed."""
    text = mistakes(written(tmp_path, {"type": "AlwaysAllow", "name": "all"}), known=CASBIN)
    assert text == "authorizers: has none of type Casbin, for which there is a policy: it would not be asked"


async def test_file_is_read_again(tmp_path: Path) -> None:
    """What it says from then on holds at once, for whoever bound the old one; webhooks have forgotten everything."""
    casbin, last = {"type": "Casbin", "name": "casbin"}, {"type": "AlwaysDeny", "name": "last"}
    path = written(tmp_path, last, casbin)
    union = ConfiguredAuthorizers(path, known=CASBIN)
    get = ASKED._replace(verb="get", name="web")
    verdict, before = union.verdict, union.revision
    assert verdict(get) == await union.authorize(get)
    assert not (await union.authorize(get)).allowed
    written(tmp_path, casbin, last)
    assert await union.refresh() == union.revision.partition(" ")[0]
    allowed = verdict(get)
    assert allowed is not None
    assert allowed.allowed
    assert union.revision != before
    written(tmp_path, last, casbin)
    union.reload()
    assert verdict(get) == await union.authorize(get)
    assert union.revision == before


async def test_broken_file_changes_nothing(tmp_path: Path) -> None:
    """What was read before stays in force; readiness and figures say so until the file is good again."""
    path = written(tmp_path, {"type": "AlwaysAllow", "name": "all"})
    union = ConfiguredAuthorizers(path)
    [check] = union.checks
    for break_it in (lambda: written(tmp_path, {"type": "Node", "name": "node"}), path.unlink):
        break_it()
        with pytest.raises(ConfigurationError):
            union.reload()
        with pytest.raises(ConfigurationError):
            await union.refresh()
        assert (await union.authorize(ASKED)).allowed
        assert check.check() is None
        assert figures(union)["aggmw_authorization_policy_stale"] == 1
    written(tmp_path, {"type": "AlwaysDeny", "name": "none"})
    await union.refresh()
    assert not (await union.authorize(ASKED)).allowed
    assert figures(union)["aggmw_authorization_policy_stale"] == 0


def figures(union: ConfiguredAuthorizers) -> dict[str, float]:
    return {each.name: each.value for each in union.samples() if len(each.labels) == 1}


async def test_decisions_are_counted(tmp_path: Path) -> None:
    """Kubernetes' metric: by type, name and decision; a file that is read again goes on counting."""
    path = written(tmp_path, {"type": "Casbin", "name": "mine"}, {"type": "AlwaysDeny", "name": "last"})
    union = ConfiguredAuthorizers(path, known=CASBIN)
    for verb in ("get", "delete"):
        union.verdict(ASKED._replace(verb=verb, name="web"))
    union.reload()
    await union.authorize(ASKED._replace(verb="delete"))
    assert {
        tuple(value for _, value in each.labels): each.value
        for each in union.samples()
        if each.name == "apiserver_authorization_decisions_total"
    } == {
        ("Casbin", "mine", "allowed"): 1,
        ("Casbin", "mine", "denied"): 0,
        ("AlwaysDeny", "last", "allowed"): 0,
        ("AlwaysDeny", "last", "denied"): 2,
    }


async def test_figures_of_webhooks_go_on(tmp_path: Path) -> None:
    """Counters do not fall because the file was read again: webhooks of one name are one to whoever looks at them."""
    conditions = [{"expression": "request.user == 'nobody'"}]
    union = ConfiguredAuthorizers(written(tmp_path, webhook(matchConditions=conditions)))

    async def excluded() -> list[float]:
        await union.authorize(ASKED._replace())
        samples = [sample for each in union.members if isinstance(each, Source) for sample in each.samples()]
        return [each.value for each in samples if each.name.endswith("match_condition_exclusions_total")]

    assert await excluded() == [1]
    union.reload()
    assert await excluded() == [2]
    written(tmp_path, webhook(matchConditions=conditions), webhook("other.example.com", matchConditions=conditions))
    await union.refresh()
    assert await excluded() == [3, 1]


async def test_file_is_watched(tmp_path: Path, clock: VirtualClock) -> None:
    """As kube-apiserver does: without being told."""
    path = written(tmp_path, {"type": "AlwaysAllow", "name": "all"})
    assert ConfiguredAuthorizers(path).controllers == ()
    union = ConfiguredAuthorizers(path, watch=True)
    [controller] = union.controllers
    watching = asyncio.create_task(controller.run())
    await asyncio.sleep(0)
    written(tmp_path, {"type": "AlwaysDeny", "name": "none"})
    while (await union.authorize(ASKED)).allowed:
        await clock.advance(0.25)
        await asyncio.to_thread(lambda: None)  # where the file is looked at
    watching.cancel()
    await asyncio.wait([watching])


class Slow(ConfiguredAuthorizers):
    """Has read the file, and does not say so yet."""

    gate: threading.Event | None = None
    has_read = threading.Event()

    def _read(self) -> Any:
        found, gate = super()._read(), self.gate
        if gate is not None:
            self.has_read.set()
            gate.wait()
        return found


async def test_older_reading_does_not_win(tmp_path: Path) -> None:
    """One that began earlier and ends later than another one has nothing to say any more."""
    allow, deny = {"type": "AlwaysAllow", "name": "all"}, {"type": "AlwaysDeny", "name": "none"}
    union = Slow(written(tmp_path, allow))
    gate = union.gate = threading.Event()
    slow = asyncio.create_task(union.refresh())
    await asyncio.to_thread(union.has_read.wait)
    union.gate = None
    written(tmp_path, deny)
    union.reload()
    gate.set()
    await slow
    assert not (await union.authorize(ASKED)).allowed


def test_shown(tmp_path: Path) -> None:
    """The file, and who is asked."""
    path = written(tmp_path, {"type": "AlwaysAllow", "name": "all"}, webhook())
    assert repr(ConfiguredAuthorizers(path)) == (
        f"ConfiguredAuthorizers('{path}', [AllowAll(),"
        " SubjectAccessReviewWebhook('authz.example.com', Webhook(http://127.0.0.1:9/authorize))])"
    )


@pytest.mark.parametrize("content", ["", "a: 1\n---\nb: 1\n", "- 1\n", "a: [\n"])
def test_other_files(tmp_path: Path, content: str) -> None:
    """What is no such object at all."""
    path = tmp_path / "authz.yaml"
    path.write_text(content)
    mistakes(path)


async def test_disk_that_hangs_at_the_end(tmp_path: Path) -> None:
    """No process waits at its end for a file that cannot be read."""
    path = written(tmp_path, {"type": "Casbin", "name": "casbin"})
    union = ConfiguredAuthorizers(path, known=CASBIN)
    path.unlink()
    os.mkfifo(path)
    refresh = asyncio.create_task(union.refresh())
    async with asyncio.timeout(60):
        while True:
            try:
                writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # nobody waits yet
                await asyncio.sleep(0.01)
    waiting = [each for each in threading.enumerate() if each.name.startswith("aggmw")]
    os.close(writing)
    with pytest.raises(ConfigurationError):
        await refresh
    assert waiting
    assert all(each.daemon for each in waiting)
