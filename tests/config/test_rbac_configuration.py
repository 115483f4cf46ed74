"""`authorization.rbac`: roles and bindings of the operator's files, asked after `system:masters` and casbin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aggmw.config.authorizers import Authorized, authorized
from aggmw.config.load import parse
from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError

ROLE = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
"""
BINDING = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: readers}
roleRef: {kind: ClusterRole, name: reader}
subjects: [{kind: User, name: alice}]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a role, and another one with a binding of it."""
    (tmp_path / "roles.yaml").write_text(ROLE, encoding="utf-8")
    (tmp_path / "rbac.d").mkdir()
    (tmp_path / "rbac.d/bindings.yaml").write_text(BINDING, encoding="utf-8")
    return tmp_path


def made(place: Path, **keys: Any) -> Authorized:
    return authorized(parse({"authorization": keys}, file="config.yaml", base=place))


async def reason(found: Authorized, user: str, verb: str = "get", *groups: str) -> str | None:
    """Why it is allowed; None: it is not."""
    verdict = await found.authorizer.authorize(Attributes(Identity(user, groups=groups), verb, True, "", "v1", "pods"))
    return verdict.reason if verdict.allowed else None


async def test_roles_and_bindings(place: Path) -> None:
    """Files and directories are one set of objects, besides the default roles; system:masters need none."""
    found = made(place, rbac=["roles.yaml", "rbac.d"])
    expected = 'RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to User "alice"'
    assert await reason(found, "alice") == expected
    assert await reason(found, "bob") is None
    assert await reason(found, "root", "get", "system:masters") == "allowed to members of the group system:masters"


async def test_casbin_is_asked_first(place: Path) -> None:
    """What the casbin policy denies no role allows; what it has no opinion on, roles decide."""
    (place / "policy.csv").write_text("p, user:alice, list, core, pods, *, *, deny\n", encoding="utf-8")
    found = made(place, policy="policy.csv", rbac=["roles.yaml", "rbac.d"])
    assert (await reason(found, "alice") or "").startswith("RBAC: ")
    assert await reason(found, "alice", "list") is None


async def test_read_again(place: Path) -> None:
    """They are read again by name, as SIGHUP does; broken ones leave everything as it was."""
    found = made(place, rbac=["roles.yaml", "rbac.d"])
    again = found.reloads["roles and bindings"]
    (place / "rbac.d/bindings.yaml").write_text(BINDING.replace("alice", "bob"), encoding="utf-8")
    await again()  # type: ignore[misc]  # it reads in the background
    assert (await reason(found, "alice"), await reason(found, "bob") is None) == (None, False)
    (place / "roles.yaml").write_text("kind: [", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"roles.yaml:2: is not YAML"):
        await again()  # type: ignore[misc]  # the same
    assert await reason(found, "bob") is not None


def test_mistakes_of_all_policies_at_once(place: Path) -> None:
    """What is wrong in a casbin policy and in manifests is reported together."""
    (place / "policy.csv").write_text("p, alice\n", encoding="utf-8")
    (place / "roles.yaml").write_text("kind: ClusterRole\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        made(place, policy="policy.csv", rbac=["roles.yaml", "gone.d"])
    assert [Path(each.path.partition(":")[0]).name for each in caught.value.problems] == [
        "policy.csv",
        "roles.yaml",
        "gone.d",
    ]
