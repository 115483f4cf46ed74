"""A model and a policy as they were loaded: compiled, never changed, replaced as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import TypeAlias

import structlog

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.casbin.cache import VerdictCache
from aggmw.middleware.authorization.casbin.closures import Pending, Scope, Uncompilable
from aggmw.middleware.authorization.casbin.enforcer import Enforcer, casbin_functions, ordered
from aggmw.middleware.authorization.casbin.expressions import LONGEST
from aggmw.middleware.authorization.casbin.functions import (
    FUNCTIONS,
    KEY_PATTERNS,
    LONGEST_VALUE,
    Unmatchable,
    bounded,
    key_pattern_fault,
)
from aggmw.middleware.authorization.casbin.inputs import FIELDS, Reader, key_of, size_of, text_of, unfit
from aggmw.middleware.authorization.casbin.keys import KEYS, TEXTS, Keys
from aggmw.middleware.authorization.casbin.lint import Report
from aggmw.middleware.authorization.casbin.model import Model
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.revisions import revision_of
from aggmw.middleware.authorization.casbin.role_patterns import PatternRoles, Patterns
from aggmw.middleware.authorization.casbin.roles import RoleGraph
from aggmw.middleware.authorization.casbin.section import Decision, Effect, Section
from aggmw.middleware.authorization.casbin.subjects import Subjects

__all__ = ["Functions", "RolePatterns", "Snapshot", "functions_of"]

Found: TypeAlias = "tuple[Verdict, Row | None]"
_log = structlog.get_logger("aggmw.authorization")
_DENIED = Verdict(Outcome.DENY)
_NO_OPINION = Verdict(Outcome.NO_OPINION)
_BY_RULE = Verdict(Outcome.DENY, "denied by policy")
_GLOB_SIGNS = frozenset("*?[]{}\\")
_CACHEABLE = 2048  # characters: what is longer is not worth its memory


@dataclass(frozen=True, slots=True)
class Functions:
    """What matchers call.

    Attributes:
        known: by name.
        own: those that were handed in; what they depend on is not known.
        awaited: those of them that are coroutine functions.
        keyed: those of ours whose patterns can be looked up.
    """

    known: Mapping[str, Callable[..., object]]
    own: frozenset[str]
    awaited: frozenset[str]
    keyed: frozenset[str]


@dataclass(frozen=True, slots=True)
class RolePatterns:
    """Which role definitions hold patterns, each with the function that matches them.

    Attributes:
        names: of the names in their rows.
        domains: of the domains.
    """

    names: Mapping[str, str]
    domains: Mapping[str, str]

    def faults(self, model: Model, report: Report) -> Iterator[Problem]:
        """Mistakes in them, for a model and its policy."""
        for option, given in (("role_patterns", self.names), ("domain_patterns", self.domains)):
            for key, function in given.items():
                if key not in model.role_keys:
                    yield Problem(model.source, f"has no role definition {key}, for which {option} is given")
                elif function not in KEY_PATTERNS and function != "globMatch":
                    known = ", ".join(sorted({*KEY_PATTERNS, "globMatch"}))
                    yield Problem(model.source, f"{option} of {key}: '{function}' is none of {known}")
                elif option == "domain_patterns" and model.definitions[key].value.count("_") < 3:
                    yield Problem(model.definitions[key].where, f"{key} has no domain, for which {option} is given")
                else:
                    yield from _pattern_faults(report, key, function, 0 if given is self.names else 2)
        if "g" in self.names and any("subjects" in d.columns for d in model.definitions.values() if d.key[0] == "r"):
            yield Problem(model.source, "names r.subjects, which does not know of role_patterns: ask g(r.sub, p.x)")


def _pattern_faults(report: Report, key: str, function: str, column: int) -> Iterator[Problem]:
    for row in report.rows:
        if row.ptype == key:
            fault = key_pattern_fault(function, row[column]) if function in KEY_PATTERNS else None
            if fault is not None:
                yield Problem(row.where, fault)
            if not column and _is_pattern(function, row[1]):
                yield Problem(
                    row.where,
                    f"has the role '{row[1]}', which is a pattern to {function}: a member may be one, a role may not",
                )


def _is_pattern(function: str, text: str) -> bool:
    if function == "globMatch":
        return not _GLOB_SIGNS.isdisjoint(text)
    return KEYS[function](text) != Keys((text,))


def functions_of(own: Mapping[str, Callable[..., object]], *, exact: bool) -> Functions:
    """Ours, casbin's and those that were handed in.

    Args:
        exact: whether patterns match whole values literally; otherwise casbin's functions match them as they do.
    """
    theirs = casbin_functions()
    loose = frozenset() if exact else KEY_PATTERNS | {"regexMatch"}
    ours = {name: function for name, function in FUNCTIONS.items() if name not in loose}
    for name in (*loose, "globMatch"):
        theirs[name] = bounded(theirs[name], LONGEST if name == "regexMatch" else LONGEST_VALUE)
    return Functions(
        {**theirs, **ours, **own},
        frozenset(own),
        frozenset(
            name
            for name, function in own.items()
            if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
        ),
        frozenset(KEYS) - loose - own.keys(),
    )


class Snapshot:
    """Decides by one policy.

    Attributes:
        revision: names the model and the rows, the same in every process.
        varying: functions and fields because of which no verdict is remembered.

    Args:
        model, report: without mistakes.
        fields: of one's own that requests have besides.
        patterns: of roles.
        cache: how many verdicts to remember; none are when they depend on more than the request and the policy.

    Raises:
        ConfigurationError: asynchronous functions in a model that cannot be compiled.
        Exception: casbin refuses the model or the policy.
    """

    def __init__(
        self,
        model: Model,
        report: Report,
        functions: Functions,
        fields: Mapping[str, Reader],
        patterns: RolePatterns,
        cache: int,
    ) -> None:
        self.model = model
        self.report = report
        in_order = self._effect() in (Effect.PRIORITY, Effect.SUBJECT_PRIORITY)
        self.revision = revision_of(model, report.rows, in_order=in_order)
        self.functions = functions
        self.graphs = {key: self._graph(key, patterns) for key in model.role_keys}
        self.uncompiled: list[Problem] = []
        self._path_suffix = model.suffixes[-1]
        rules = ordered(model, report.rows)
        self.has_rules = any(rules.values())
        readers = {**FIELDS, **fields, "subjects": self._subjects(rules).of}
        self._readers = {
            suffix: tuple(readers[name] for name in model.definitions[f"r{suffix}"].columns)
            for suffix in model.suffixes
        }
        self._sections = {suffix: self._section(suffix, rules[f"p{suffix}"]) for suffix in model.suffixes}
        self._without_rules = frozenset(suffix for suffix in model.suffixes if not rules[f"p{suffix}"])
        self._awaiting = frozenset(suffix for suffix in model.suffixes if self._awaits(suffix))
        self._enforcer: Enforcer | None = None
        if self.uncompiled:
            if functions.awaited & {name for matcher in report.matchers.values() for name, _ in matcher.calls()}:
                raise ConfigurationError(
                    [Problem(one.path, f"{one.message}, and casbin cannot await functions") for one in self.uncompiled]
                )
            self._enforcer = Enforcer(model, report.rows, self.graphs, functions.known)
        self.varying = tuple(dict.fromkeys((*report.varying, *sorted(functions.own))))
        self._cache: VerdictCache[Found] | None = VerdictCache(cache) if cache and not self.varying else None

    def _effect(self) -> Effect:
        return Effect(self.model.definitions["e"].value.partition("#")[0].strip())

    def _graph(self, key: str, patterns: RolePatterns) -> RoleGraph:
        rows = [row for row in self.report.rows if row.ptype == key]
        names, domains = patterns.names.get(key), patterns.domains.get(key)
        if names is None and domains is None:
            return RoleGraph(rows)
        return PatternRoles(rows, names=self._matched(names), domains=self._matched(domains))

    def _matched(self, function: str | None) -> Patterns | None:
        """How the patterns of a function are."""
        if function is None:
            return None
        match = self.functions.known[function]
        if function not in self.functions.keyed:
            return Patterns(match)
        return Patterns(match, KEYS[function], TEXTS.get(function, str))

    def _subjects(self, rules: Mapping[str, tuple[Row, ...]]) -> Subjects:
        uses = any("subjects" in self.model.definitions[f"r{suffix}"].columns for suffix in self.model.suffixes)
        named = {text for some in rules.values() for row in some for text in row} if uses else ()
        return Subjects(self.graphs.get("g", RoleGraph()), named)

    def scope(self, suffix: str) -> Scope:
        """What the matcher of a suffix can name."""
        definitions = self.model.definitions
        return Scope(
            suffix,
            definitions[f"r{suffix}"].columns,
            definitions[f"p{suffix}"].columns,
            self.graphs,
            self.functions.known,
            self.functions.keyed,
            self.functions.awaited,
        )

    def _section(self, suffix: str, rules: tuple[Row, ...]) -> Section | None:
        """The rules of a suffix, compiled, or None with the reason among `uncompiled`."""
        try:
            return Section(self.report.matchers[suffix], self.scope(suffix), self._effect(), rules)
        except Uncompilable as error:
            where = self.model.definitions[f"m{suffix}"].where
            self.uncompiled.append(
                Problem(
                    where,
                    f"[matchers] m{suffix} uses {error}, which cannot be compiled: casbin goes through all rules for"
                    " each decision, in a thread",
                )
            )
            return None

    def _awaits(self, suffix: str) -> bool:
        """Whether a matcher may call what has to be awaited."""
        calls = {name for name, _ in self.report.matchers[suffix].calls()}
        return bool(self.functions.awaited) and (not calls.isdisjoint(self.functions.awaited) or "eval" in calls)

    def verdict(self, attributes: Attributes) -> Verdict | None:
        """What the policy says; `NO_OPINION` where no rule matches; None where that has to be awaited (`later`)."""
        found = self._found(attributes)
        return None if found is None else _told(found)

    async def later(self, attributes: Attributes) -> Verdict:
        """The same, for every request, in its time."""
        return _told(await self.found(attributes))

    async def found(self, attributes: Attributes) -> Found:
        """The verdict and the rule that decided, if one did."""
        found = self._found(attributes)
        if found is None:
            try:
                found = _verdict(await self._awaited(attributes))
            except Unmatchable:
                found = _DENIED, None
            if self._cache is not None and size_of(attributes, text_of(attributes)) <= _CACHEABLE:
                self._cache.put(key_of(attributes), found, allowed=found[0].allowed)
        return found

    def _found(self, attributes: Attributes) -> Found | None:
        if not self.has_rules or not attributes.identity.user or not attributes.verb:
            return _DENIED, None
        cache = self._cache
        if cache is None:
            return self._decided(attributes, text_of(attributes))
        key = key_of(attributes)
        found = cache.get(key)
        if found is None:
            text = text_of(attributes)
            found = self._decided(attributes, text)
            if found is not None and size_of(attributes, text) <= _CACHEABLE:
                cache.put(key, found, allowed=found[0].allowed)
        return found

    async def _awaited(self, attributes: Attributes) -> Decision:
        """What a model says that calls coroutine functions, or that casbin evaluates."""
        suffix = self.suffix(attributes)
        section, enforcer = self._sections[suffix], self._enforcer
        request = self.values(attributes)
        if section is None:
            # Switched off, casbin allows everything.
            if enforcer is None or not enforcer.enabled:
                return Decision(False, None)
            return Decision(*await asyncio.to_thread(enforcer.ask, suffix, request))
        request.append({})
        while True:
            try:
                return section.decide(request)
            except Pending as raised:
                pending = raised
            pending.place[pending.key] = await pending.call()

    def _decided(self, attributes: Attributes, text: str) -> Found | None:
        if unfit(attributes, text):
            return _DENIED, None
        suffix = "" if attributes.is_resource else self._path_suffix
        if suffix in self._without_rules:
            return (_DENIED if self.report.without_match else _NO_OPINION), None
        section = self._sections[suffix]
        if section is None or suffix in self._awaiting:
            return None
        try:
            return _verdict(section.decide([read(attributes) for read in self._readers[suffix]]))
        except Unmatchable:
            return _DENIED, None

    def suffix(self, attributes: Attributes) -> str:
        """Of the definitions that decide on a request."""
        return "" if attributes.is_resource else self._path_suffix

    def values(self, attributes: Attributes) -> list[object]:
        """The values of the request definition's fields."""
        return [read(attributes) for read in self._readers[self.suffix(attributes)]]


def _verdict(decision: Decision) -> Found:
    allowed, rule = decision
    if allowed:
        return Verdict(Outcome.ALLOW, "no rule denies it" if rule is None else rule.shown), rule
    return (_NO_OPINION, None) if rule is None else (_BY_RULE, rule)


def _told(found: Found) -> Verdict:
    """The verdict; which rule denied is for the operator, each time."""
    verdict, rule = found
    if verdict is _BY_RULE:
        _log.debug("denied by rule", rule=str(rule))
    return verdict
