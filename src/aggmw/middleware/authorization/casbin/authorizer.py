"""CasbinAuthorizer: policies from files, decided by casbin, replaced as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import structlog

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import SYSTEM_MASTERS
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.casbin.cache import VerdictCache
from aggmw.middleware.authorization.casbin.enforcer import Enforcer, check_distribution, known_functions
from aggmw.middleware.authorization.casbin.functions import FUNCTIONS, Unmatchable
from aggmw.middleware.authorization.casbin.inputs import key_of, unfit, values_of
from aggmw.middleware.authorization.casbin.lint import Report, inspect
from aggmw.middleware.authorization.casbin.model import Model, read_model
from aggmw.middleware.authorization.casbin.policy import Row, read_rows
from aggmw.middleware.authorization.casbin.roles import RoleGraph
from aggmw.middleware.authorization.casbin.text import BadText, read
from aggmw.middleware.authorization.fixed import PrivilegedGroups

__all__ = ["CasbinAuthorizer"]

_log = structlog.get_logger("aggmw.authorization")
_DENIED = Verdict(Outcome.DENY)
_NO_OPINION = Verdict(Outcome.NO_OPINION)
_BY_RULE = Verdict(Outcome.DENY, "denied by policy")
_CACHEABLE = 2048


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
        functions: Mapping[str, Callable[..., bool]] | None,
        cache: int,
    ) -> None:
        check_distribution()
        self._policy = policy
        self._model = model
        self._privileged = PrivilegedGroups(privileged)
        self._allow_eval = allow_eval
        self._functions = dict(functions or {})
        self._cache = cache
        self._snapshot = self._load()

    def __repr__(self) -> str:
        return f"CasbinAuthorizer({self._policy.name!r}, {len(self._snapshot.report.rows)} rows)"

    @classmethod
    def from_files(
        cls,
        policy: Path | str,
        *,
        model: Path | str | None = None,
        privileged: Iterable[str] = (SYSTEM_MASTERS,),
        allow_eval: bool = False,
        functions: Mapping[str, Callable[..., bool]] | None = None,
        cache: int = 4096,
    ) -> CasbinAuthorizer:
        """Read a policy, and perhaps a model, from files; `reload` reads them again.

        Args:
            policy: rows of casbin's comma-separated form.
            model: a casbin model of one's own; without it the one that ships.
            privileged: groups whose members are allowed everything.
            allow_eval: let matchers run the text of policies as expressions (`eval(p.rule)`): whoever may write a rule
                may then write code.
            functions: further functions for the matcher of one's own model. Its verdicts are then not remembered,
                because nobody knows what else the functions depend on.
            cache: how many allowing and how many refusing verdicts to remember; 0 for none.
        """
        return cls(
            _Source(str(policy)),
            None if model is None else _Source(str(model)),
            privileged=privileged,
            allow_eval=allow_eval,
            functions=functions,
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
        functions: Mapping[str, Callable[..., bool]] | None = None,
        cache: int = 4096,
    ) -> CasbinAuthorizer:
        """The same from texts, which are called "policy" and "model" in messages."""
        return cls(
            _Source("policy", policy),
            None if model is None else _Source("model", model),
            privileged=privileged,
            allow_eval=allow_eval,
            functions=functions,
            cache=cache,
        )

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What in the loaded policy is probably meant otherwise."""
        return tuple(self._snapshot.report.warnings)

    def reload(self) -> None:
        """Read the files again and decide by them from now on. Blocks while it reads; safe in another thread.

        Raises:
            ConfigurationError: they are broken; what was loaded before stays in force.
        """
        self._snapshot = self._load()

    async def authorize(self, attributes: Attributes) -> Verdict:
        """As `verdict`."""
        return self.verdict(attributes)

    def verdict(self, attributes: Attributes) -> Verdict:
        """The verdict on these attributes, at once."""
        privileged = self._privileged.verdict(attributes)
        return privileged if privileged.allowed else self._snapshot.verdict(attributes)

    def _load(self) -> _Snapshot:
        model, problems = self._read_model()
        rows, row_problems = self._read_rows()
        functions = {**FUNCTIONS, **self._functions}
        report = inspect(
            model,
            rows,
            shipped=self._model is None,
            functions=known_functions() | functions.keys(),
            allow_eval=self._allow_eval,
        )
        problems += [*report.problems, *row_problems]
        if problems:
            raise ConfigurationError(sorted(dict.fromkeys(problems), key=_place))
        try:
            snapshot = _Snapshot(model, report, functions, self._cache if not self._functions else 0)
        except Exception as error:
            raise ConfigurationError([Problem(model.source, f"casbin refuses it: {error}")]) from error
        for warning in report.warnings:
            _log.warning("questionable policy", path=warning.path, problem=warning.message)
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


class _Snapshot:
    """One policy as it was loaded: never changed, replaced as a whole.

    Args:
        cache: how many verdicts to remember; none when the matcher calls what is not known to be pure.
    """

    def __init__(self, model: Model, report: Report, functions: Mapping[str, Callable[..., bool]], cache: int) -> None:
        self.report = report
        graphs = {key: RoleGraph(row for row in report.rows if row.ptype == key) for key in model.role_keys}
        self._roles = graphs.get("g", RoleGraph())
        self._enforcer = Enforcer(model, report.rows, graphs, functions)
        self._fields = {suffix: model.definitions[f"r{suffix}"].columns for suffix in model.suffixes}
        self._path_suffix = model.suffixes[-1]
        self._by_subject = {
            suffix: _by_subject(self._enforcer.rules(suffix), column)
            for suffix, column in report.subject_columns.items()
            if not report.without_match
        }
        self.has_rules = any(self._enforcer.rules(suffix) for suffix in model.suffixes)
        self._cache: VerdictCache[tuple[Verdict, Row | None]] | None = (
            VerdictCache(cache) if cache and report.pure else None
        )

    def verdict(self, attributes: Attributes) -> Verdict:
        """What the policy says; `NO_OPINION` where no rule matches."""
        if not self.has_rules or not self._enforcer.enabled or not attributes.identity.user or not attributes.verb:
            return _DENIED
        cache = self._cache
        key = key_of(attributes)
        found = None if cache is None else cache.get(key)
        if found is None:
            found = self._decided(attributes)
            if cache is not None and _size(attributes) <= _CACHEABLE:
                cache.put(key, found, allowed=found[0].allowed)
        verdict, rule = found
        if verdict is _BY_RULE:
            _log.debug("denied by rule", rule=str(rule))
        return verdict

    def _decided(self, attributes: Attributes) -> tuple[Verdict, Row | None]:
        if unfit(attributes):
            return _DENIED, None
        suffix = "" if attributes.is_resource else self._path_suffix
        subjects = frozenset(self._subjects(attributes))
        rules = self._rules(suffix, subjects)
        if not rules:
            return (_NO_OPINION if not self.report.without_match else _DENIED), None
        values = values_of(self._fields[suffix], attributes, subjects)
        try:
            allowed, rule = self._enforcer.ask(suffix, values, rules)
        except Unmatchable:
            return _DENIED, None
        if allowed:
            return Verdict(Outcome.ALLOW, str(rule) if rule is not None else "no rule denies it"), rule
        return (_NO_OPINION, None) if rule is None else (_BY_RULE, rule)

    def _subjects(self, attributes: Attributes) -> Iterator[str]:
        """The caller as the rules of the shipped model name subjects: the user, the groups, and the roles of these."""
        identity = attributes.identity
        for name in (f"user:{identity.user}", *(f"group:{group}" for group in identity.groups)):
            yield name
            yield from self._roles.roles_of(name)

    def _rules(self, suffix: str, subjects: frozenset[str]) -> tuple[Row, ...]:
        """The rules that casbin has to go through.

        Where the matcher begins with `p.subject in r.subjects &&`, a rule for another subject cannot match, and a rule
        that does not match has no part in the effect; so the others are left out, in the same order.
        """
        rules = self._enforcer.rules(suffix)
        index = self._by_subject.get(suffix)
        if index is None:
            return rules
        return tuple(rules[number] for number in sorted({n for subject in subjects for n in index.get(subject, ())}))


def _by_subject(rules: tuple[Row, ...], column: int) -> Mapping[str, list[int]]:
    index: dict[str, list[int]] = {}
    for number, rule in enumerate(rules):
        index.setdefault(rule[column], []).append(number)
    return index


def _size(attributes: Attributes) -> int:
    """How many characters a key holds: a long one is not worth its memory."""
    identity = attributes.identity
    return len(identity.user) + sum(map(len, identity.groups)) + sum(map(len, attributes[3:10]))
