"""CasbinAuthorizer: a policy, compiled, replaced as a whole."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

from aggmw.contracts.authorization import Attributes, Explanation, Outcome, Rules, Verdict
from aggmw.contracts.catalog import Check, Controller
from aggmw.contracts.grants import Granted
from aggmw.contracts.identity import SYSTEM_MASTERS, Identity
from aggmw.contracts.metrics import Sample
from aggmw.contracts.options import check_seam
from aggmw.contracts.reloading import PolicyWatcher
from aggmw.contracts.threads import in_thread
from aggmw.errors import CompositionError, Problem
from aggmw.middleware.authorization.aside import beside_the_loop, collect_what_is_left, giving_way, let_go
from aggmw.middleware.authorization.casbin.enforcer import check_distribution
from aggmw.middleware.authorization.casbin.explain import explain
from aggmw.middleware.authorization.casbin.granted import granted, mentioned
from aggmw.middleware.authorization.casbin.index import Node
from aggmw.middleware.authorization.casbin.lint import Report
from aggmw.middleware.authorization.casbin.listing import list_rules
from aggmw.middleware.authorization.casbin.options import REMEMBERED, Options, loader_of
from aggmw.middleware.authorization.casbin.roles import RoleGraph
from aggmw.middleware.authorization.casbin.second_look import second_look
from aggmw.middleware.authorization.casbin.section import Section
from aggmw.middleware.authorization.casbin.snapshot import Snapshot
from aggmw.middleware.authorization.casbin.sources import (
    AdapterSource,
    AwaitedSource,
    FileSource,
    PolicySource,
    RowsSource,
    TextSource,
    of_adapter,
)
from aggmw.middleware.authorization.casbin.subjects import Subjects
from aggmw.middleware.authorization.fixed import PrivilegedGroups
from aggmw.middleware.authorization.records import LoadRecord
from aggmw.middleware.authorization.turns import Turns
from aggmw.middleware.authorization.watching import FileWatcher, FirstLoad, Follower

__all__ = ["CasbinAuthorizer"]

_FEW = 200  # rows that are looked through in less than a millisecond or two
_PARTS = (Node, Report, RoleGraph, Section, Snapshot, Subjects)
_UNLOADED = Verdict(Outcome.DENY, error="no policy is loaded yet")


class CasbinAuthorizer:
    """Decides by a casbin policy; has no opinion on what no rule matches.

    Make one with `from_files`, `from_text`, `from_rows` or `from_adapter`. Without a model of their own, policies are
    written as `docs/how-to/write-policies.md` says. A rule that denies wins over every rule that allows. A policy
    without a rule denies everything.

    Members of the `privileged` groups are allowed everything before any rule is asked, also before rules that deny.

    What is loaded is never changed: `reload` and `refresh` make another one aside, and swap it in as a whole. While
    there is none yet, because an adapter has to be awaited, all that others ask for is refused with a 500.

    Attributes:
        controllers: background work, which a front proxy runs: loads a policy that has to be awaited, watches files,
            follows a `PolicyWatcher`.
        checks: lines of `/readyz`.

    Raises:
        ConfigurationError: every mistake in the model and the policy, each with file and line.
    """

    def __init__(
        self,
        policy: PolicySource | AdapterSource | AwaitedSource,
        model: TextSource | None,
        *,
        watch: bool = False,
        watcher: PolicyWatcher | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_distribution()
        self._loader = loader_of(model, options)
        self._privileged = PrivilegedGroups(options.get("privileged", (SYSTEM_MASTERS,)))
        self._policy = policy
        self._snapshot: Snapshot | None = None
        self._record = LoadRecord("authorization-policy", policy.name)
        self.checks: tuple[Check, ...] = (self._record,)
        self._turns = Turns(self._load_aside, "loading a policy")
        self._changing = asyncio.Lock()
        self._loading = threading.Lock()
        controllers: list[Controller] = []
        if watch:
            files = [each.name for each in (policy, model) if isinstance(each, FileSource)]
            controllers.append(FileWatcher(files, self.refresh, what="policy"))
        if isinstance(policy, AwaitedSource):
            controllers.append(FirstLoad(lambda: self._snapshot is not None, self.refresh, what="policy"))
        else:
            self.reload()
        if watcher is not None:
            controllers.append(Follower(watcher, self.refresh, what="policy"))
        self.controllers = tuple(controllers)

    def __repr__(self) -> str:
        snapshot = self._snapshot
        if snapshot is None:
            return f"CasbinAuthorizer({self._policy.name!r}, not loaded)"
        rows, by = len(snapshot.report.rows), ", evaluated by casbin" if snapshot.uncompiled else ""
        return f"CasbinAuthorizer({self._policy.name!r}, {rows} rows, revision {snapshot.revision}{by})"

    @classmethod
    def from_files(
        cls,
        policy: Path | str,
        *,
        model: Path | str | None = None,
        watch: bool = False,
        privileged: Iterable[str] = (SYSTEM_MASTERS,),
        allow_eval: bool = False,
        functions: Mapping[str, Callable[..., object]] | None = None,
        fields: Mapping[str, Callable[[Attributes], object]] | None = None,
        casbin_patterns: bool = False,
        role_patterns: Mapping[str, str] | None = None,
        domain_patterns: Mapping[str, str] | None = None,
        cache: int = REMEMBERED,
    ) -> CasbinAuthorizer:
        """Read a policy, and perhaps a model, from files; `reload` and `refresh` read them again.

        Args:
            policy: rows of casbin's comma-separated form.
            model: a casbin model of one's own; without it the one that ships.
            watch: read them again when they were changed, for as long as its `controllers` run.
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
            FileSource(policy),
            None if model is None else FileSource(model),
            watch=watch,
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
    def from_text(cls, policy: str, *, model: str | None = None, **options: Unpack[Options]) -> CasbinAuthorizer:
        """The same from texts, which are called "policy" and "model" in messages.

        Args:
            options: as for `from_files`.
        """
        return cls(TextSource("policy", policy), None if model is None else TextSource("model", model), **options)

    @classmethod
    def from_rows(
        cls, rows: Iterable[Sequence[str]], *, model: Path | str | None = None, **options: Unpack[Options]
    ) -> CasbinAuthorizer:
        """The same from rows that Python code has: `("p", "user:alice", "get", …)`. Changed with `change`.

        Args:
            rows: each with its type in front.
            model: a text, or a file's `Path`.
            options: as for `from_files`.
        """
        return cls(RowsSource(rows), _model(model), **options)

    @classmethod
    def from_adapter(
        cls,
        adapter: object,
        *,
        model: Path | str | None = None,
        name: str = "adapter",
        timeout: float = 60.0,
        in_thread: bool = False,
        watcher: PolicyWatcher | None = None,
        **options: Unpack[Options],
    ) -> CasbinAuthorizer:
        """The same from a casbin adapter.

        One whose `load_policy` is a coroutine function is read by the first `refresh`, or when the `controllers` run,
        on the event loop: how long it keeps that busy is its own affair. Any other is read at once, and by each
        `refresh` in a thread.

        Args:
            adapter: whatever has `load_policy(model)`.
            model: a text, or a file's `Path`.
            name: what messages call it, and each row: "adapter row 17".
            timeout: seconds after which one that is awaited counts as broken.
            in_thread: await it in a thread, on an event loop that lasts for one reading: it must not keep connections
                from one to the next.
            watcher: says when the policy was changed elsewhere; `CasbinWatcher` makes one of casbin's.
            options: as for `from_files`.
        """
        if watcher is not None:
            check_seam("watcher", watcher, "announce")
        return cls(of_adapter(adapter, name, timeout, in_thread), _model(model), watcher=watcher, **options)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What in the loaded policy is probably meant otherwise."""
        snapshot = self._snapshot
        return () if snapshot is None else (*snapshot.report.warnings, *snapshot.uncompiled)

    @property
    def revision(self) -> str:
        """Names the model and the rows that are in force, the same in every process; "" while there are none."""
        return "" if self._snapshot is None else self._snapshot.revision

    def samples(self) -> Iterable[Sample]:
        """How often the policy was loaded, and what is in force."""
        return self._record.samples()

    def reload(self) -> None:
        """Read the policy again and decide by it from now on. Blocks while it reads; safe in another thread.

        Raises:
            ConfigurationError: it is broken; what was loaded before stays in force.
            CompositionError: it comes from an adapter that has to be awaited.
        """
        policy = self._policy
        if isinstance(policy, AwaitedSource):
            raise CompositionError(f"{policy.name} has to be awaited: await authorizer.refresh()")
        try:
            self._load(partial(self._current, policy))
        except Exception:
            self._record.failed()
            raise

    async def refresh(self) -> str:
        """The same, in a thread, while requests go on; gives the revision that is in force then.

        There is never more than one at a time: those who ask while the policy is being read share one more reading.

        Raises:
            ConfigurationError: it is broken; what was loaded before stays in force.
        """
        await self._turns.take()
        return self.revision

    async def change(self, *, add: Iterable[Sequence[str]] = (), remove: Iterable[Sequence[str]] = ()) -> str:
        """Take rows out and put others in, all of them at once; gives the new revision. For `from_rows`.

        Raises:
            ConfigurationError: the rows would be broken then; nothing is changed.
            ValueError: there is no such row to be removed; the same.
            CompositionError: the policy is not one of rows: change it where it comes from, then `refresh`.
        """
        async with self._changing:
            await in_thread(partial(self._load, partial(self._changed, tuple(add), tuple(remove))))
        return self.revision

    async def authorize(self, attributes: Attributes) -> Verdict:
        """The verdict on these attributes."""
        verdict = self.verdict(attributes)
        if verdict is not None or self._snapshot is None:
            return verdict or _UNLOADED
        return await self._snapshot.later(attributes)

    def verdict(self, attributes: Attributes) -> Verdict | None:
        """The same, at once; None where the model calls coroutine functions, or is evaluated by casbin."""
        privileged = self._privileged.verdict(attributes)
        if privileged.allowed:
            return privileged
        snapshot = self._snapshot
        return _UNLOADED if snapshot is None else snapshot.verdict(attributes)

    async def explain(self, attributes: Attributes) -> Explanation:
        """The verdict, with the rule that decided and how it concerns the caller; or what nearly did, and would."""
        privileged = self._privileged.verdict(attributes)
        if privileged.allowed:
            return Explanation(privileged)
        snapshot = self._snapshot
        if snapshot is None:
            return Explanation(_UNLOADED)
        verdict, rule = await snapshot.found(attributes)
        trial = partial(self._loader.trial, snapshot.model)
        if snapshot.report.shipped and len(snapshot.report.rows) <= _FEW:
            return explain(snapshot, attributes, verdict, rule, trial)
        return await asyncio.to_thread(explain, snapshot, attributes, verdict, rule, trial)

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        """What the rules of the model that ships allow a caller in a namespace; of other models nothing is listed."""
        privileged = await self._privileged.rules_for(identity, namespace)
        if privileged.resource:
            return privileged
        snapshot = self._snapshot
        if snapshot is None:
            return Rules(incomplete=True, error=_UNLOADED.error)
        return await asyncio.to_thread(list_rules, snapshot, identity, namespace)

    def granted(self) -> Granted | None:
        """What the rules of the model that ships grant; None for other models, and while nothing is loaded."""
        snapshot = self._snapshot
        return None if snapshot is None else granted(snapshot, self._privileged.groups)

    def second_look(self) -> list[Problem]:
        """What is worth one besides the warnings: rules that change nothing, for one. Takes longer with many rules."""
        snapshot = self._snapshot
        return [] if snapshot is None else list(second_look(snapshot, self.granted(), self._policy.name))

    def mentioned(self) -> frozenset[str]:
        """All texts in rows: whoever is named by a rule is among them."""
        snapshot = self._snapshot
        return frozenset() if snapshot is None else mentioned(snapshot)

    async def _load_aside(self) -> None:
        """One reading of the policy, off the event loop."""
        if not isinstance(self._policy, AwaitedSource):
            await in_thread(self.reload)
            return
        try:
            fetched = await self._policy.fetch()
            await in_thread(partial(self._load, lambda: fetched))
        except Exception:
            self._record.failed()
            raise

    def _current(self, policy: PolicySource | AdapterSource) -> PolicySource:
        """What there is to be read now."""
        if isinstance(self._policy, RowsSource):
            return self._policy  # which `change` may have put in the place of that one
        return policy.fetch() if isinstance(policy, AdapterSource | FileSource) else policy

    def _changed(self, add: Iterable[Sequence[str]], remove: Iterable[Sequence[str]]) -> PolicySource:
        policy = self._policy
        if not isinstance(policy, RowsSource):
            raise CompositionError(f"{policy.name} is changed where it is kept; then await refresh()")
        return policy.changed(add, remove)

    def _load(self, read: Callable[[], PolicySource]) -> None:
        """Make a snapshot, and swap it in."""
        with self._loading, giving_way():  # so that what is read last is what stays
            source = read()
            if source.foreign:
                collect_what_is_left()
            with beside_the_loop():
                self._swap(source)

    def _swap(self, policy: PolicySource) -> None:
        snapshot = self._loader.load(policy)
        last: list[object] = [self._snapshot]
        self._snapshot = snapshot
        if isinstance(policy, RowsSource):
            self._policy = policy
        self._record.succeeded(snapshot.revision, len(snapshot.report.rows))
        if last[0] is not None:
            let_go(last, _PARTS)


def _model(model: Path | str | None) -> TextSource | None:
    if model is None:
        return None
    return FileSource(model) if isinstance(model, Path) else TextSource("model", model)
