"""casbin: its order of rules, its functions, and its evaluator for models that cannot be compiled.

This is the only module that imports it. Only the plain `Enforcer` is used: `FastEnforcer` keeps its rules in a set, so
that priorities depend on the hash seed, and `SyncedEnforcer` clears the live role graph while it reloads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from threading import local
from typing import Any

import casbin
from casbin.core_enforcer import EnforceContext
from casbin.model import Assertion, FunctionMap
from casbin.util import SimpleEval

from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.casbin.model import Model
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.roles import RoleGraph

__all__ = ["Enforcer", "assertion_with", "casbin_functions", "check_distribution", "model_of", "ordered"]


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


def casbin_functions() -> dict[str, Callable[..., bool]]:
    """The functions that casbin has for matchers."""
    return dict(FunctionMap.load_function_map().get_functions())


def model_of(sections: Mapping[str, object]) -> object:
    """A model for adapters to fill, made of these sections."""
    made = casbin.Model()
    made.logger = _Silent()
    made.model = sections
    return made


def assertion_with(rows: list[Any]) -> Any:
    """What casbin keeps the rows of one type in."""
    made = Assertion()
    made.policy = rows
    return made


def _casbin_model(model: Model, rows: Sequence[Row]) -> casbin.Model:
    """The model with its rules, in casbin's order."""
    made = casbin.Model()
    made.logger = _Silent()
    for definition in model.definitions.values():
        made.add_def(definition.key[0], definition.key, definition.value)
    for row in rows:
        made[row.ptype[0]][row.ptype].policy.append(row)
    made.sort_policies_by_subject_hierarchy()
    made.sort_policies_by_priority()
    return made


def ordered(model: Model, rows: Sequence[Row]) -> Mapping[str, tuple[Row, ...]]:
    """The rules, by policy definition, in the order in which casbin goes through them.

    Raises:
        Exception: casbin refuses the model or the policy.
    """
    return {key: tuple(assertion.policy) for key, assertion in _casbin_model(model, rows)["p"].items()}


class _ParsedOnce(casbin.Enforcer):  # type: ignore[misc]  # casbin has no types
    """casbin's, which otherwise parses the matcher again for every decision.

    An evaluator holds the values of one decision, so each gets its own; the tree, which nothing changes, is shared.
    """

    def __init__(self, model: casbin.Model) -> None:
        self._trees: dict[str, object] = {}
        self._evaluators = local()
        super().__init__(model)

    def ask(self, context: EnforceContext, values: Sequence[object]) -> tuple[bool, object]:
        """As `enforce_ex`. An evaluator refers to itself, and is taken apart: the collector may never come by."""
        made = self._evaluators.made = []
        try:
            allowed, rule = self.enforce_ex(context, *values)
            return allowed, rule
        finally:
            for evaluator in made:
                vars(evaluator).clear()

    def _get_expression(self, expr: str, functions: Mapping[str, object] | None = None) -> SimpleEval:
        tree = self._trees.get(expr)
        if tree is None:
            parsed = super()._get_expression(expr, functions)
            if any(expr == matcher.value for matcher in self.model["m"].values()):
                self._trees[expr] = parsed.ast_parsed_value  # texts of eval() are not kept
            self._evaluators.made.append(parsed)
            return parsed
        evaluator = SimpleEval("", functions)
        evaluator.expr = expr
        evaluator.ast_parsed_value = tree
        self._evaluators.made.append(evaluator)
        return evaluator


class Enforcer:
    """A model with its rules, fixed when it is made. Asking changes nothing, so threads may share it.

    Args:
        model: without mistakes, as `lint` finds them.
        rows: the policy.
        roles: who has which role, by role definition.
        functions: all that matchers call.

    Raises:
        Exception: casbin refuses the model or the policy.
    """

    def __init__(
        self,
        model: Model,
        rows: Sequence[Row],
        roles: Mapping[str, RoleGraph],
        functions: Mapping[str, Callable[..., object]],
    ) -> None:
        self._model = _casbin_model(model, rows)
        self._casbin = _ParsedOnce(self._model)
        self._casbin.logger = _Silent()
        self._rules = {key: tuple(assertion.policy) for key, assertion in self._model["p"].items()}
        for key, graph in roles.items():
            self._model["g"][key].rm = self._casbin.rm_map[key] = graph
        for name, function in functions.items():
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

    def ask(self, suffix: str, values: Sequence[object]) -> tuple[bool, Row | None]:
        """Whether casbin allows, and the rule that decided, if one did. Takes as long as there are rules.

        Args:
            suffix: "" for r, p and m; "2" for r2, p2 and m2. There have to be rules: without any, casbin would try the
                matcher on empty texts.
            values: of the request definition's fields.
        """
        if not self._rules[f"p{suffix}"]:
            raise ValueError("casbin is not asked without rules")
        allowed, rule = self._casbin.ask(self._contexts[suffix], values)
        return allowed is True, rule if isinstance(rule, Row) else None
