"""P7: what deciding by a policy costs, on questions that were never asked before and on one that was.

pycasbin decides on the same rules beside it, as far as it can be waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import TypeAlias

import casbin

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import CasbinAuthorizer
from benchmarks.machine import resident
from benchmarks.report import Figure, Report, Row, progress
from benchmarks.workspace import GROUP, rules

__all__ = ["SIZES", "decisions", "loading", "strangers"]

SIZES = (10, 100, 1000, 10_000, 100_000)
"""Numbers of rules."""

Call: TypeAlias = Callable[[], object]

_WAITED_FOR = 10_000  # rules; with 100,000 pycasbin takes minutes to link its roles
_GROUPS = tuple(f"group-of-the-caller-{number}" for number in range(47))
_CALLER = Identity("alice", "1042", ("developers", "team-a", *_GROUPS, "system:authenticated"))
_ASKED = Attributes(_CALLER, "get", True, GROUP, "v1", "things", "", "dev", "one")
_CALLERS = {"1 group": Identity("alice", "1042", ("developers",)), "50 groups": _CALLER}
_OWN = """
[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, dom, obj, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && r.dom == p.dom && keyMatch(r.obj, p.obj) && r.act == p.act
"""
_PATH = f"/apis/{GROUP}/v1/namespaces/dev/"


def decisions(sizes: Sequence[int]) -> Iterator[tuple[str, Call]]:
    """By number of rules: the model that ships, a casbin model, and pycasbin with that."""
    for number in sizes:
        authorizer = CasbinAuthorizer.from_text(rules(number))
        for groups, caller in _CALLERS.items():
            title = f"casbin, {number:,} rules, {groups}"
            asked = _ASKED._replace(identity=caller)
            yield f"{title}, allow, cold", _cold(authorizer, asked, allowed=True)
            yield f"{title}, deny, cold", _cold(authorizer, asked._replace(verb="deletecollection"), allowed=False)
            yield f"{title}, remembered", partial(authorizer.verdict, asked)
    for number in sizes:
        authorizer = CasbinAuthorizer.from_text(_own_rules(number), model=_OWN)
        title = f"casbin, a model of one's own, {number:,} rules"
        yield f"{title}, allow, cold", _cold(authorizer, _ASKED, allowed=True)
        yield f"{title}, deny, cold", _cold(authorizer, _ASKED._replace(verb="put"), allowed=False)
    for number in (each for each in sizes if each <= _WAITED_FOR):
        enforcer = _pycasbin(number)
        for verb, title in (("get", "allow"), ("put", "deny")):
            call = partial(enforcer.enforce, "alice", "dev", f"{_PATH}things/one", verb)
            yield f"pycasbin, the same model, {number:,} rules, {title}", call


def _cold(authorizer: CasbinAuthorizer, asked: Attributes, *, allowed: bool) -> Call:
    """Asks what was never asked before: another name each time.

    Raises:
        ValueError: the answer is another one.
    """
    names = count()

    def ask() -> object:
        return authorizer.verdict(asked._replace(name=f"thing-{next(names)}"))

    verdict = authorizer.verdict(asked)
    if verdict is None or verdict.allowed is not allowed:
        raise ValueError(f"{asked}: {verdict}")
    return ask


def _own_rows(number: int) -> Iterator[tuple[str, ...]]:
    """Roles with rules in domains, and their members; the caller's come last."""
    for index in range((number - 2) // 2):
        yield ("p", f"role:{index}", f"ns-{index}", f"/apis/{GROUP}/v1/namespaces/ns-{index}/*", "get")
        yield ("g", f"user-{index}", f"role:{index}", f"ns-{index}")
    yield ("g", "alice", "role:developer", "dev")
    yield ("p", "role:developer", "dev", f"{_PATH}*", "get")


def _own_rules(number: int) -> str:
    return "".join(f"{', '.join(row)}\n" for row in _own_rows(number))


def _pycasbin(number: int) -> casbin.Enforcer:
    model = casbin.Model()
    model.load_model_from_text(_OWN)
    for ptype, *columns in _own_rows(number):
        model.add_policy(ptype[0], ptype, columns)
    enforcer = casbin.Enforcer(model)
    enforcer.build_role_links()
    return enforcer


def loading(report: Report, sizes: Sequence[int]) -> None:
    """A table: how long a policy takes to be read, looked through and compiled."""
    rows: list[Row] = []
    for number in sizes:
        progress(f"  loading {number} rules")
        began = time.perf_counter()
        CasbinAuthorizer.from_text(rules(number))
        took = time.perf_counter() - began
        rows.append({"policy": f"{number:,} rules", "load and compile, s": took})
        if number == 10_000:
            report.reached("loading", Figure(took))
    report.table("Loading a policy", rows)


def strangers(report: Report, number: int) -> None:
    """A table: how much memory so many different callers leave behind, after as many as the caches hold."""
    progress(f"  {number:,} strangers")
    authorizer = CasbinAuthorizer.from_text(rules(10_000))
    own = CasbinAuthorizer.from_text(_own_rules(10_000), model=_OWN)
    names = count()

    def ask(times: int) -> None:
        for _ in range(times):
            name = next(names)
            asked = Attributes(Identity(f"user {name}", "", (f"group {name}",)), "get", True, GROUP, "v1", "things")
            authorizer.verdict(asked)
            own.verdict(asked)

    ask(number // 20)
    before = resident(os.getpid())
    began = time.perf_counter()
    ask(number)
    took = (time.perf_counter() - began) / number * 1e6
    grown = (resident(os.getpid()) - before) / (1 << 20)
    report.reached("strangers", Figure(grown))
    report.table(
        "Callers that were never seen before", [{"callers": number, "MiB grown": grown, "µs for two policies": took}]
    )
