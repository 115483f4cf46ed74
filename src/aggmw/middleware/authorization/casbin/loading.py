"""From a model and the rows of a policy to a snapshot, or to all the mistakes in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import structlog

from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.aside import drain
from aggmw.middleware.authorization.casbin.inputs import Reader
from aggmw.middleware.authorization.casbin.lint import Report, inspect
from aggmw.middleware.authorization.casbin.model import Model, read_model
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Functions, RolePatterns, Snapshot
from aggmw.middleware.authorization.casbin.sources import PolicySource, TextSource
from aggmw.middleware.authorization.casbin.text import BadText

__all__ = ["Loader"]

_log = structlog.get_logger("aggmw.authorization")
_PLACE = re.compile(r"(.*)(?::| row )([0-9]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Loader:
    """Makes snapshots, as the options of an authorizer say.

    Args:
        model: None for the one that ships.
        allow_eval, functions, fields, patterns, cache: see `CasbinAuthorizer`.
        exact: whether patterns match whole values literally.
    """

    model: TextSource | None
    allow_eval: bool
    functions: Functions
    fields: Mapping[str, Reader]
    exact: bool
    patterns: RolePatterns
    cache: int

    def load(self, policy: PolicySource) -> Snapshot:
        """Read the policy, and the model too, and compile them. May block, and takes its time.

        Raises:
            ConfigurationError: all the mistakes.
        """
        model, problems = self._read_model()
        rows, row_problems = policy.read()
        report = self._inspected(model, rows)
        problems += [*report.problems, *row_problems, *self.patterns.faults(model, report)]
        if self.model is None and policy.foreign:
            problems += _without_effect(model, rows)
        drain(rows)
        if problems:
            drain(report.rows)
            raise ConfigurationError(sorted(dict.fromkeys(problems), key=_place))
        try:
            snapshot = Snapshot(model, report, self.functions, self.fields, self.patterns, self.cache)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError([Problem(model.source, f"casbin refuses it: {error}")]) from error
        for warning in report.warnings:
            _log.warning("questionable policy", path=warning.path, problem=warning.message)
        for problem in snapshot.uncompiled:
            _log.warning("model is not compiled", path=problem.path, problem=problem.message)
        if snapshot.varying and self.cache:
            _log.info("verdicts are not remembered", path=model.source, because_of=", ".join(snapshot.varying))
        if not snapshot.has_rules:
            _log.warning("empty policy: everything is denied", path=policy.name)
        return snapshot

    def trial(self, model: Model, rows: Sequence[Row]) -> Snapshot | None:
        """What a policy of other rows would be, of a model that is loaded; None where it has mistakes."""
        report = self._inspected(model, rows)
        if report.problems or any(self.patterns.faults(model, report)):
            return None
        try:
            return Snapshot(model, report, self.functions, self.fields, self.patterns, 0)
        except Exception:  # noqa: BLE001  casbin refuses it
            return None

    def _inspected(self, model: Model, rows: Sequence[Row]) -> Report:
        return inspect(
            model,
            rows,
            shipped=self.model is None,
            functions=self.functions.known.keys(),
            allow_eval=self.allow_eval,
            objects=self.fields.keys(),
            exact=self.exact,
        )

    def _read_model(self) -> tuple[Model, list[Problem]]:
        if self.model is None:
            return read_model(resources.files(__package__).joinpath("model.conf").read_text("utf-8"), "model.conf")
        try:
            return read_model(self.model.text(), self.model.name)
        except BadText as error:
            return Model(self.model.name, {}), [error.problem]


def _without_effect(model: Model, rows: Iterable[Row]) -> Iterator[Problem]:
    for row in rows:
        definition = model.get(row.ptype)
        if definition is not None and definition.columns[len(row) :] == ("eft",):
            yield Problem(row.where, "has no EFFECT: write allow or deny; a table with too few columns would lose it")


def _place(problem: Problem) -> tuple[str, int]:
    """By file, then by line."""
    found = _PLACE.fullmatch(problem.path)
    return (found[1], int(found[2])) if found else (problem.path, 0)
