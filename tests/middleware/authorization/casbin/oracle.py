"""casbin itself beside our compiled form of the same model and policy, both asked with the same values."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import casbin
from casbin.model import Model as CasbinModel

from aggmw.errors import Problem
from aggmw.middleware.authorization.casbin.closures import Scope
from aggmw.middleware.authorization.casbin.enforcer import ordered
from aggmw.middleware.authorization.casbin.matcher import read_matcher
from aggmw.middleware.authorization.casbin.model import read_model
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.roles import RoleGraph
from aggmw.middleware.authorization.casbin.section import Decision, Effect, Section
from aggmw.middleware.authorization.casbin.snapshot import functions_of

__all__ = ["Both", "model_text", "section_of"]


def model_text(
    request: str,
    policy: str,
    matcher: str,
    effect: Effect = Effect.ALLOW_OVERRIDE,
    roles: Mapping[str, str] | None = None,
) -> str:
    """A model file."""
    lines = "".join(f"{key} = {value}\n" for key, value in (roles or {}).items())
    return (
        f"[request_definition]\nr = {request}\n[policy_definition]\np = {policy}\n"
        + (f"[role_definition]\n{lines}" if lines else "")
        + f"[policy_effect]\ne = {effect.value}\n[matchers]\nm = {matcher}\n"
    )


@dataclass(frozen=True)
class Both:
    """One model and policy, loaded twice.

    Attributes:
        ours: our compiled form.
        theirs: casbin's enforcer.
    """

    ours: Section
    theirs: casbin.Enforcer

    @classmethod
    def load(cls, text: str, rows: Sequence[Sequence[str]], *, exact: bool = True, **functions: Any) -> Both:
        """Load the rows, each with its type first.

        Args:
            exact: patterns as we match them; False for casbin's own functions.
            functions: further ones, for both.
        """
        return cls(section_of(text, rows, exact, functions), _theirs(text, rows, functions))

    def ask(self, *values: object) -> tuple[Decision, bool]:
        """What we say, and whether casbin allows."""
        return self.ours.decide(values), self.theirs.enforce(*values)


def section_of(
    text: str, rows: Sequence[Sequence[str]], exact: bool = True, functions: Mapping[str, Any] | None = None
) -> Section:
    """Our compiled form alone."""
    model, problems = read_model(text, "model")
    assert problems == list[Problem]()
    kept = [Row(tuple(columns), ptype, f"policy:{number}") for number, (ptype, *columns) in enumerate(rows, 1)]
    definitions = model.definitions
    known = functions_of(functions or {}, exact=exact)
    graphs = {key: RoleGraph(row for row in kept if row.ptype == key) for key in model.role_keys}
    scope = Scope("", definitions["r"].columns, definitions["p"].columns, graphs, known.known, known.keyed)
    return Section(
        read_matcher(definitions["m"].value, ""), scope, Effect(definitions["e"].value), ordered(model, kept)["p"]
    )


def _theirs(text: str, rows: Sequence[Sequence[str]], functions: Mapping[str, Any]) -> casbin.Enforcer:
    for name in ("casbin.enforcer", "casbin.policy", "casbin.role"):
        logging.getLogger(name).disabled = True
    model = CasbinModel()
    model.load_model_from_text(text)
    for ptype, *columns in rows:
        model.add_policy(ptype[0], ptype, list(columns))
    model.sort_policies_by_subject_hierarchy()
    model.sort_policies_by_priority()
    enforcer = casbin.Enforcer(model)
    enforcer.build_role_links()
    for name, function in functions.items():
        enforcer.add_function(name, function)
    return enforcer
