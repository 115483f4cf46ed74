"""casbin's evaluator, behind one class: the only module that imports casbin.

Only the plain `Enforcer` is used. `FastEnforcer` keeps its rules in a set, so that priorities depend on the hash seed;
`SyncedEnforcer` clears the live role graph while it reloads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from importlib import metadata

import casbin
from casbin.core_enforcer import EnforceContext
from casbin.model import FunctionMap
from casbin.util import SimpleEval

from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.casbin.functions import bounded
from aggmw.middleware.authorization.casbin.model import Model
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.roles import RoleGraph

__all__ = ["Enforcer", "check_distribution", "known_functions"]


class _Silent:
    """A logger that says nothing: casbin's own writes each denied request, unescaped, at WARNING."""

    def isEnabledFor(self, level: int) -> bool:
        return False

    def info(self, *args: object) -> None: ...

    warning = info


def check_distribution(find: Callable[[str], object] = metadata.distribution) -> None:
    """Refuse to run on a mixture of two releases.

    The distributions `pycasbin` and `casbin` (its old name) install the same folder, each over the other.

    Raises:
        ConfigurationError: both are installed.
    """
    try:
        find("casbin")
    except metadata.PackageNotFoundError:
        return
    raise ConfigurationError(
        [
            Problem(
                "casbin",
                "the distributions 'casbin' and 'pycasbin' are both installed, and overwrite each other's files:"
                " pip uninstall casbin pycasbin, then pip install pycasbin",
            )
        ]
    )


def known_functions() -> frozenset[str]:
    """The functions that casbin has for matchers."""
    return frozenset(FunctionMap.load_function_map().get_functions())


class _ParsedOnce(casbin.Enforcer):  # type: ignore[misc]  # casbin has no types
    """casbin's, which otherwise parses the matcher again for every decision.

    An evaluator holds the values of one decision, so each gets its own; the tree, which nothing changes, is shared.
    """

    def __init__(self, model: casbin.Model) -> None:
        self._trees: dict[str, object] = {}
        super().__init__(model)

    def _get_expression(self, expr: str, functions: Mapping[str, object] | None = None) -> SimpleEval:
        tree = self._trees.get(expr)
        if tree is None:
            parsed = super()._get_expression(expr, functions)
            if any(expr == matcher.value for matcher in self.model["m"].values()):
                self._trees[expr] = parsed.ast_parsed_value  # texts of eval() are not kept
            return parsed
        evaluator = SimpleEval("", functions)
        evaluator.expr = expr
        evaluator.ast_parsed_value = tree
        return evaluator


class Enforcer:
    """A model with its rules, fixed when it is made. Asking changes nothing, so threads may share it.

    Args:
        model: without mistakes, as `lint` finds them.
        rows: the policy.
        roles: who has which role, by role definition.
        functions: what matchers call, besides and in place of casbin's own.

    Raises:
        Exception: casbin refuses the model or the policy.
    """

    def __init__(
        self,
        model: Model,
        rows: Sequence[Row],
        roles: Mapping[str, RoleGraph],
        functions: Mapping[str, Callable[..., bool]],
    ) -> None:
        self._model = casbin.Model()
        self._model.logger = _Silent()
        for definition in model.definitions.values():
            self._model.add_def(definition.key[0], definition.key, definition.value)
        self._casbin = _ParsedOnce(self._model)
        self._casbin.logger = _Silent()
        for row in rows:
            self._model[row.ptype[0]][row.ptype].policy.append(row)
        self._model.sort_policies_by_subject_hierarchy()
        self._model.sort_policies_by_priority()
        self._rules = {key: tuple(assertion.policy) for key, assertion in self._model["p"].items()}
        for key, graph in roles.items():
            self._model["g"][key].rm = self._casbin.rm_map[key] = graph
        glob = bounded(self._casbin.fm.get_functions()["globMatch"])
        for name, function in {"globMatch": glob, **functions}.items():
            self._casbin.add_function(name, function)
        self._contexts = {
            suffix: EnforceContext(f"r{suffix}", f"p{suffix}", "e", f"m{suffix}") for suffix in model.suffixes
        }

    @property
    def enabled(self) -> bool:
        """Whether casbin decides at all: when disabled it allows everything, so nothing may be asked."""
        return self._casbin.enabled is True

    def rules(self, suffix: str) -> tuple[Row, ...]:
        """The rules in the order in which casbin goes through them."""
        return self._rules[f"p{suffix}"]

    def ask(self, suffix: str, values: Sequence[object], rules: Sequence[Row]) -> tuple[bool, Row | None]:
        """Whether casbin allows, and the rule that decided, if one did.

        Args:
            suffix: "" for r, p and m; "2" for r2, p2 and m2.
            values: of the request definition's fields.
            rules: what to go through: all of `rules(suffix)`, or those that can match. Never none: casbin would then
                try the matcher on empty texts.
        """
        if not rules:
            raise ValueError("casbin is not asked without rules")
        key = f"p{suffix}"
        assertion = copy(self._model["p"][key])
        assertion.policy = rules
        model = copy(self._model)
        model.model = {**self._model.model, "p": {key: assertion}}
        enforcer = copy(self._casbin)
        enforcer.model = model
        allowed, rule = enforcer.enforce_ex(self._contexts[suffix], *values)
        return allowed is True, rule if isinstance(rule, Row) else None
