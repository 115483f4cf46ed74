"""P7 for Kubernetes RBAC: what deciding by roles and bindings costs, by their number and the caller's groups."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import RbacAuthorizer
from benchmarks.policies import Call
from benchmarks.report import Figure, Report, Row, progress
from benchmarks.workspace import GROUP

__all__ = ["BINDINGS", "binding_decisions", "binding_loading"]

BINDINGS = "RBAC, 10,000 bindings, 50 groups"
"""The lines that have floors."""

_GROUPS = tuple(f"group-of-the-caller-{number}" for number in range(47))
_CALLERS = {
    "1 group": Identity("alice", "1042", ("developers",)),
    "50 groups": Identity("alice", "1042", ("developers", "team-a", *_GROUPS, "system:authenticated")),
}
_API = "rbac.authorization.k8s.io"


def binding_decisions(sizes: Sequence[int]) -> Iterator[tuple[str, Call]]:
    """By number of bindings, allow and deny; and where each of the caller's groups has a role of its own."""
    for number in sizes:
        authorizer = RbacAuthorizer.from_objects(list(_objects(number)))
        yield from _asked(f"RBAC, {number:,} bindings", authorizer)
    own = [made for group in _GROUPS for made in _pair(f"role-of-{group}", "dev", group, names=[f"of-{group}"])]
    title = "RBAC, 10,000 bindings, each group with a role for the resource"
    yield from _asked(title, RbacAuthorizer.from_objects([*_objects(10_000), *own]), only="50 groups")


def _asked(title: str, authorizer: RbacAuthorizer, only: str = "") -> Iterator[tuple[str, Call]]:
    for groups, caller in _CALLERS.items():
        if only in ("", groups):
            asked = Attributes(caller, "get", True, GROUP, "v1", "things", "", "dev", "one")
            for verb, answer in (("get", "allow"), ("deletecollection", "deny")):
                assert authorizer.verdict(asked._replace(verb=verb)).allowed is (answer == "allow")
                yield f"{title}, {groups}, {answer}", partial(_ask, authorizer, asked._replace(verb=verb), count())


def _ask(authorizer: RbacAuthorizer, asked: Attributes, names: Iterator[int]) -> object:
    """The same work as in the lines of casbin: another name each time."""
    return authorizer.verdict(asked._replace(name=f"thing-{next(names)}"))


def _objects(number: int) -> Iterator[dict[str, Any]]:
    """Roles with bindings to groups, over a hundred namespaces; the caller's comes last."""
    for index in range(number - 1):
        yield from _pair(f"role-{index}", f"ns-{index % 100}", f"group-{index}", names=[f"thing-{index % 50}"])
    yield from _pair("developer", "dev", "developers")


def _pair(name: str, namespace: str, group: str, names: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    metadata = {"name": name, "namespace": namespace}
    rule = {"apiGroups": [GROUP], "resources": ["things", "others"], "verbs": ["get", "list"]}
    if names:
        rule["resourceNames"] = [*names]
    yield {"apiVersion": f"{_API}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    yield {
        "apiVersion": f"{_API}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"kind": "Role", "name": name},
        "subjects": [{"kind": "Group", "name": group}],
    }


def binding_loading(report: Report, sizes: Sequence[int]) -> None:
    """A table: how long objects take to be looked through and indexed."""
    rows: list[Row] = []
    for number in sizes:
        progress(f"  loading {number} bindings")
        objects = list(_objects(number))
        began = time.perf_counter()
        RbacAuthorizer.from_objects(objects)
        took = time.perf_counter() - began
        rows.append({"objects": f"{number:,} roles and as many bindings", "check and index, s": took})
        if number == 10_000:
            report.reached("loading bindings", Figure(took))
    report.table("Loading roles and bindings", rows)
