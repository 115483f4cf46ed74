"""What decides who may do what, as a configuration says it."""

from __future__ import annotations

import json
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest

from aggmw.config.authorizers import Authorized, authorized
from aggmw.config.configuration import AuthorizationConfiguration, Configuration
from aggmw.config.load import parse
from aggmw.contracts.authorization import Attributes, Explainer
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer, ConfiguredAuthorizers, Union
from aggmw.testing import ScriptedBackend, respond

ANN, BOB, ROOT = Identity("ann"), Identity("bob"), Identity("root", groups=("system:masters",))
CASBIN, NOBODY = {"type": "Casbin", "name": "casbin"}, {"type": "AlwaysDeny", "name": "nobody"}


def get(identity: Identity, path: str = "/x") -> Attributes:
    return Attributes(identity, "get", False, path=path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A policy that lets ann get paths."""
    (tmp_path / "policy.csv").write_text("p2, user:ann, get, /*\n")
    return tmp_path


def file_of(place: Path, *authorizers: dict[str, Any]) -> None:
    whole = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration"}
    (place / "authz.yaml").write_text(json.dumps(whole | {"authorizers": list(authorizers)}))


def made(place: Path, **keys: Any) -> Authorized:
    return authorized(parse({"authorization": keys}, file="config.yaml", base=place))


async def allowed(found: Authorized, *asked: Attributes) -> list[bool]:
    return [(await found.authorizer.authorize(each)).allowed for each in asked]


async def again(found: Authorized, name: str) -> None:
    reloading = found.reloads[name]()
    assert isawaitable(reloading)
    await reloading


async def test_nothing_configured_is_denied(place: Path) -> None:
    """Rule 7: only system:masters may do anything then."""
    found = made(place)
    assert await allowed(found, get(ANN), get(ROOT)) == [False, True]
    assert found.reloads == {}


async def test_policy_alone(place: Path) -> None:
    """Nothing stands between it and the requests: it knows of system:masters itself."""
    found = made(place, policy="policy.csv")
    assert isinstance(found.authorizer, CasbinAuthorizer)
    assert await allowed(found, get(ANN), get(BOB), get(ROOT)) == [True, False, True]


@pytest.mark.parametrize("policy", [{}, {"policy": "policy.csv"}])
async def test_paths_for_everybody(place: Path, policy: dict[str, str]) -> None:
    """`alwaysAllowPaths`, with or without a policy; nothing else is allowed for it."""
    found = made(place, alwaysAllowPaths=["/healthz", "/open/*"], **policy)
    paths = [get(BOB, path) for path in ("/healthz", "/open/a", "/healthz/x")]
    assert await allowed(found, *paths) == [True, True, False]
    assert await allowed(found, get(ANN), get(ROOT)) == [bool(policy), True]


async def test_file_decides_the_order(place: Path) -> None:
    """`configurationFile`: in it, `policy` is the type Casbin; in front of it are system:masters and those paths."""
    file_of(place, NOBODY, CASBIN)
    keys = {"policy": "policy.csv", "configurationFile": "authz.yaml", "alwaysAllowPaths": ["/healthz"]}
    found = made(place, **keys)
    assert await allowed(found, get(ANN), get(BOB, "/healthz"), get(ROOT)) == [False, True, True]
    file_of(place, CASBIN, NOBODY)
    assert await allowed(made(place, **keys), get(ANN), get(BOB)) == [True, False]
    assert isinstance(found.authorizer, Explainer)
    explanation = await found.authorizer.explain(get(ANN))
    assert [name for name, _ in explanation.opinions] == ["PrivilegedGroups", "AlwaysAllowPaths", "nobody"]


ROLES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{verbs: [get], nonResourceURLs: ["/*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: readers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: bob}]
"""


async def test_roles_and_bindings_have_their_place(place: Path) -> None:
    """`rbac` is the type RBAC of the file; without a file it is asked after the casbin policy, whose denials win."""
    (place / "roles.yaml").write_text(ROLES)
    (place / "policy.csv").write_text("p2, user:ann, get, /*\np2, user:bob, get, /no, deny\n")
    keys: dict[str, Any] = {"policy": "policy.csv", "rbac": ["roles.yaml"]}
    asked = (get(ANN), get(BOB), get(BOB, "/no"), get(Identity("eve")))
    assert await allowed(made(place, **keys), *asked) == [True, True, False, False]
    rbac = {"type": "RBAC", "name": "rbac"}
    file_of(place, rbac, CASBIN)
    assert await allowed(made(place, **keys, configurationFile="authz.yaml"), *asked) == [True, True, True, False]
    file_of(place, CASBIN)
    assert "authorizers: has none of type RBAC" in mistakes(place, **keys, configurationFile="authz.yaml")
    file_of(place, rbac)
    del keys["rbac"]
    assert "give authorization.rbac" in mistakes(place, configurationFile="authz.yaml")


async def test_webhook_of_the_file(place: Path) -> None:
    """A configuration with a webhook and no policy of its own."""

    def answer(request: bytes) -> bytes:
        review = json.loads(request.partition(b"\r\n\r\n")[2])
        status = {"allowed": review["spec"]["user"] == "ann"}
        return respond(201, body=json.dumps(review | {"status": status}).encode())

    async with ScriptedBackend(answer) as backend:
        (place / "kubeconfig").write_text(
            json.dumps(
                {
                    "current-context": "a",
                    "contexts": [{"name": "a", "context": {"cluster": "a"}}],
                    "clusters": [{"name": "a", "cluster": {"server": backend.url}}],
                }
            )
        )
        webhook = {
            "timeout": "3s",
            "subjectAccessReviewVersion": "v1",
            "failurePolicy": "Deny",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "kubeconfig"},
        }
        file_of(place, {"type": "Webhook", "name": "theirs", "webhook": webhook})
        found = made(place, configurationFile="authz.yaml")
        assert await allowed(found, get(ANN), get(BOB), get(ROOT)) == [True, False, True]
        assert len(backend.connections) == 2


async def test_both_are_read_again(place: Path) -> None:
    """SIGHUP: the policy and the file, each for itself; a broken one leaves everything as it was."""
    file_of(place, CASBIN, NOBODY)
    found = made(place, policy="policy.csv", configurationFile="authz.yaml")
    assert list(found.reloads) == ["policy", "authorization configuration"]
    (place / "policy.csv").write_text("p2, user:bob, get, /*\n")
    await again(found, "policy")
    assert await allowed(found, get(ANN), get(BOB)) == [False, True]
    file_of(place, {"type": "Node", "name": "node"})
    with pytest.raises(ConfigurationError, match="there are no nodes here"):
        await again(found, "authorization configuration")
    assert await allowed(found, get(ANN), get(BOB)) == [False, True]
    file_of(place, NOBODY, CASBIN)
    await again(found, "authorization configuration")
    assert await allowed(found, get(ANN), get(BOB)) == [False, False]


@pytest.mark.parametrize("watch", [True, False])
def test_files_are_watched(place: Path, watch: bool) -> None:
    """Both, unless it says that they are not."""
    file_of(place, CASBIN)
    found = made(place, policy="policy.csv", configurationFile="authz.yaml", watch=watch)
    assert isinstance(found.authorizer, Union)
    configured = found.authorizer.members[-1]
    assert isinstance(configured, ConfiguredAuthorizers)
    [casbin] = configured.members
    assert isinstance(casbin, CasbinAuthorizer)
    assert (len(configured.controllers), len(casbin.controllers)) == ((1, 1) if watch else (0, 0))


def mistakes(place: Path, **keys: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        made(place, **keys)
    return str(caught.value)


def test_mistakes(place: Path) -> None:
    """Each in its file; a policy that the file forgets, and a file that wants a policy which there is not."""
    file_of(place, NOBODY)
    assert "authorizers: has none of type Casbin" in mistakes(
        place, policy="policy.csv", configurationFile="authz.yaml"
    )
    file_of(place, CASBIN)
    assert "authorizers[0].type: Invalid value" in mistakes(place, configurationFile="authz.yaml")
    assert "authz.yml: cannot be read" in mistakes(place, configurationFile="authz.yml")
    (place / "policy.csv").write_text("x, y\n")
    text = mistakes(place, policy="policy.csv", configurationFile="authz.yaml")
    assert "policy.csv:1" in text
    assert "Casbin" not in text  # it is there, although it is broken


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"alwaysAllowPaths": ["/a", "b"]}, "authorization.alwaysAllowPaths[1]: 'b' must begin with a slash"),
        ({"alwaysAllowPaths": ["/a*b"]}, "authorization.alwaysAllowPaths[0]: '/a*b' has a * in the middle"),
        ({"alwaysAllowPaths": "/a"}, "config.yaml: authorization.alwaysAllowPaths: must be a list of texts"),
        ({"configurationFile": ["a"]}, "config.yaml: authorization.configurationFile: must be a text, not a list"),
    ],
)
def test_mistakes_in_the_configuration(place: Path, keys: dict[str, Any], message: str) -> None:
    """Named with their key."""
    assert message in mistakes(place, **keys)


def test_defaults_are_closed() -> None:
    """Security: no path is for everybody, and no file is read, unless it is said."""
    assert Configuration().authorization == AuthorizationConfiguration(None, None)
    assert AuthorizationConfiguration().always_allow_paths == ()
