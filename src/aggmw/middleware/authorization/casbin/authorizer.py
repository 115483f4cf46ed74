"""CasbinAuthorizer: policies from files, compiled, replaced as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import structlog

from aggmw.contracts.authorization import Attributes, Explanation, Rules, Verdict
from aggmw.contracts.identity import SYSTEM_MASTERS, Identity
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.casbin.enforcer import check_distribution
from aggmw.middleware.authorization.casbin.explain import explain
from aggmw.middleware.authorization.casbin.inputs import FIELDS
from aggmw.middleware.authorization.casbin.lint import inspect
from aggmw.middleware.authorization.casbin.listing import list_rules
from aggmw.middleware.authorization.casbin.model import Model, read_model
from aggmw.middleware.authorization.casbin.policy import Row, read_rows
from aggmw.middleware.authorization.casbin.snapshot import RolePatterns, Snapshot, functions_of
from aggmw.middleware.authorization.casbin.text import BadText, read
from aggmw.middleware.authorization.fixed import PrivilegedGroups

__all__ = ["CasbinAuthorizer"]

_log = structlog.get_logger("aggmw.authorization")
_FEW = 200  # rows that are looked through in less than a millisecond or two


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a model or policy comes from: a file, or a text with a name to call it by."""

    name: str
    text: str | None = None

    def read(self) -> str:
        return read(Path(self.name)) if self.text is None else self.text


class CasbinAuthorizer:
    """Decides by a casbin policy; has no opinion on what no rule matches. Make one with `from_files` or `from_text`.

    Without a model of their own, policies are written as `docs/how-to/write-policies.md` says. A rule that denies
    wins over every rule that allows. A policy without a rule denies everything.

    Members of the `privileged` groups are allowed everything before any rule is asked, also before rules that deny.

    Raises:
        ConfigurationError: every mistake in the model and the policy, each with file and line.
    """

    def __init__(
        self,
        policy: _Source,
        model: _Source | None,
        *,
        privileged: Iterable[str],
        allow_eval: bool,
        functions: Mapping[str, Callable[..., object]] | None,
        fields: Mapping[str, Callable[[Attributes], object]] | None,
        casbin_patterns: bool,
        role_patterns: Mapping[str, str] | None,
        domain_patterns: Mapping[str, str] | None,
        cache: int,
    ) -> None:
        taken = sorted(FIELDS.keys() & (fields or {}))
        if taken:
            raise ValueError(f"fields: requests have a field called {taken[0]} already")
        check_distribution()
        self._policy = policy
        self._model = model
        self._privileged = PrivilegedGroups(privileged)
        self._allow_eval = allow_eval
        self._functions = functions_of(dict(functions or {}), exact=not casbin_patterns)
        self._fields = dict(fields or {})
        self._exact = not casbin_patterns
        self._patterns = RolePatterns(dict(role_patterns or {}), dict(domain_patterns or {}))
        self._cache = cache
        self._snapshot = self._load()

    def __repr__(self) -> str:
        snapshot = self._snapshot
        by = ", evaluated by casbin" if snapshot.uncompiled else ""
        return f"CasbinAuthorizer({self._policy.name!r}, {len(snapshot.report.rows)} rows{by})"

    @classmethod
    def from_files(
        cls,
        policy: Path | str,
        *,
        model: Path | str | None = None,
        privileged: Iterable[str] = (SYSTEM_MASTERS,),
        allow_eval: bool = False,
        functions: Mapping[str, Callable[..., object]] | None = None,
        fields: Mapping[str, Callable[[Attributes], object]] | None = None,
        casbin_patterns: bool = False,
        role_patterns: Mapping[str, str] | None = None,
        domain_patterns: Mapping[str, str] | None = None,
        cache: int = 4096,
    ) -> CasbinAuthorizer:
        """Read a policy, and perhaps a model, from files; `reload` reads them again.

        Args:
            policy: rows of casbin's comma-separated form.
            model: a casbin model of one's own; without it the one that ships.
            privileged: groups whose members are allowed everything.
            allow_eval: let matchers run the text of policies as expressions (`eval(p.rule)`): whoever may write a rule
                may then write code.
            functions: further functions for the matcher of one's own model; coroutine functions are awaited. Its
                verdicts are then not remembered, because nobody knows what else the functions depend on.
            fields: further fields of requests for one's own model, each with what makes it of the attributes: a text, a
                number, a set, or an object with attributes. Verdicts of models that name one are not remembered.
            casbin_patterns: match `keyMatch` to `keyMatch5` and `regexMatch` as casbin does, which is more than a rule
                seems to say, instead of literally and over whole values. Such patterns are tried one by one.
            role_patterns, domain_patterns: where the names, or the domains, in rows of a role definition are patterns:
                the function that matches them, such as `{"g": "keyMatch2"}`.
            cache: how many allowing and how many refusing verdicts to remember; 0 for none.
        """
        return cls(
            _Source(str(policy)),
            None if model is None else _Source(str(model)),
            privileged=privileged,
            allow_eval=allow_eval,
            functions=functions,
            fields=fields,
            casbin_patterns=casbin_patterns,
            role_patterns=role_patterns,
            domain_patterns=domain_patterns,
            cache=cache,
        )

    @classmethod
    def from_text(
        cls,
        policy: str,
        *,
        model: str | None = None,
        privileged: Iterable[str] = (SYSTEM_MASTERS,),
        allow_eval: bool = False,
        functions: Mapping[str, Callable[..., object]] | None = None,
        fields: Mapping[str, Callable[[Attributes], object]] | None = None,
        casbin_patterns: bool = False,
        role_patterns: Mapping[str, str] | None = None,
        domain_patterns: Mapping[str, str] | None = None,
        cache: int = 4096,
    ) -> CasbinAuthorizer:
        """The same from texts, which are called "policy" and "model" in messages."""
        return cls(
            _Source("policy", policy),
            None if model is None else _Source("model", model),
            privileged=privileged,
            allow_eval=allow_eval,
            functions=functions,
            fields=fields,
            casbin_patterns=casbin_patterns,
            role_patterns=role_patterns,
            domain_patterns=domain_patterns,
            cache=cache,
        )

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What in the loaded policy is probably meant otherwise."""
        return (*self._snapshot.report.warnings, *self._snapshot.uncompiled)

    def reload(self) -> None:
        """Read the files again and decide by them from now on. Blocks while it reads; safe in another thread.

        Raises:
            ConfigurationError: they are broken; what was loaded before stays in force.
        """
        self._snapshot = self._load()

    async def authorize(self, attributes: Attributes) -> Verdict:
        """The verdict on these attributes."""
        verdict = self.verdict(attributes)
        return await self._snapshot.later(attributes) if verdict is None else verdict

    def verdict(self, attributes: Attributes) -> Verdict | None:
        """The same, at once; None where the model calls coroutine functions, or is evaluated by casbin."""
        privileged = self._privileged.verdict(attributes)
        return privileged if privileged.allowed else self._snapshot.verdict(attributes)

    async def explain(self, attributes: Attributes) -> Explanation:
        """The verdict, with the rule that decided and how it concerns the caller; or what nearly did, and would."""
        privileged = self._privileged.verdict(attributes)
        if privileged.allowed:
            return Explanation(privileged)
        snapshot = self._snapshot
        verdict, rule = await snapshot.found(attributes)
        if len(snapshot.report.rows) <= _FEW:
            return explain(snapshot, attributes, verdict, rule)
        return await asyncio.to_thread(explain, snapshot, attributes, verdict, rule)

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        """What the rules of the model that ships allow a caller in a namespace; of other models nothing is listed."""
        privileged = await self._privileged.rules_for(identity, namespace)
        if privileged.resource:
            return privileged
        return await asyncio.to_thread(list_rules, self._snapshot, identity, namespace)

    def _load(self) -> Snapshot:
        model, problems = self._read_model()
        rows, row_problems = self._read_rows()
        report = inspect(
            model,
            rows,
            shipped=self._model is None,
            functions=self._functions.known.keys(),
            allow_eval=self._allow_eval,
            objects=self._fields.keys(),
            exact=self._exact,
        )
        problems += [*report.problems, *row_problems, *self._patterns.faults(model, report)]
        if problems:
            raise ConfigurationError(sorted(dict.fromkeys(problems), key=_place))
        try:
            snapshot = Snapshot(model, report, self._functions, self._fields, self._patterns, self._cache)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError([Problem(model.source, f"casbin refuses it: {error}")]) from error
        for warning in report.warnings:
            _log.warning("questionable policy", path=warning.path, problem=warning.message)
        for problem in snapshot.uncompiled:
            _log.warning("model is not compiled", path=problem.path, problem=problem.message)
        if not snapshot.has_rules:
            _log.warning("empty policy: everything is denied", path=self._policy.name)
        return snapshot

    def _read_model(self) -> tuple[Model, list[Problem]]:
        if self._model is None:
            return read_model(resources.files(__package__).joinpath("model.conf").read_text("utf-8"), "model.conf")
        try:
            return read_model(self._model.read(), self._model.name)
        except BadText as error:
            return Model(self._model.name, {}), [error.problem]

    def _read_rows(self) -> tuple[list[Row], list[Problem]]:
        try:
            return read_rows(self._policy.read(), self._policy.name)
        except BadText as error:
            return [], [error.problem]


def _place(problem: Problem) -> tuple[str, int]:
    """By file, then by line."""
    source, _, line = problem.path.rpartition(":")
    return (source, int(line)) if line.isdigit() else (problem.path, 0)
