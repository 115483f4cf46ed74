"""RbacAuthorizer: Kubernetes' roles and bindings from manifests, indexed, replaced as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from aggmw.contracts.authorization import Attributes, Explanation, NonResourceRule, ResourceRule, Rules, Verdict
from aggmw.contracts.catalog import Check, Controller
from aggmw.contracts.grants import Granted
from aggmw.contracts.identity import Identity
from aggmw.contracts.metrics import Sample
from aggmw.contracts.threads import in_thread
from aggmw.errors import Problem
from aggmw.middleware.authorization.aside import beside_the_loop, let_go
from aggmw.middleware.authorization.rbac.explain import explain
from aggmw.middleware.authorization.rbac.granted import granted
from aggmw.middleware.authorization.rbac.manifests import Manifests, default_objects, read_objects
from aggmw.middleware.authorization.rbac.objects import Binding, PolicyRule, Role
from aggmw.middleware.authorization.rbac.second_look import second_look
from aggmw.middleware.authorization.rbac.snapshot import Scope, Snapshot
from aggmw.middleware.authorization.rbac.table import Table
from aggmw.middleware.authorization.records import LoadRecord
from aggmw.middleware.authorization.turns import Turns
from aggmw.middleware.authorization.watching import FileWatcher

__all__ = ["RbacAuthorizer"]

_log = structlog.get_logger("aggmw.authorization")
_PARTS = (Binding, Role, Scope, Snapshot, Table)


class RbacAuthorizer:
    """Decides by Kubernetes' roles and bindings; has no opinion on what none of them allows.

    Make one with `from_files` or `from_objects`. Objects are `Role`, `ClusterRole`, `RoleBinding` and
    `ClusterRoleBinding` of `rbac.authorization.k8s.io/v1`, with Kubernetes' meaning: aggregated cluster roles have
    the rules of those that they select, and a binding of a role that there is not gives nothing. The roles that every
    Kubernetes cluster has are there without being written, unless an object of the same name takes their place.

    Args:
        fetch: comes by the objects, each time they are loaded, and may wait for a disk; gives what makes them, and
            waits for nothing.
        name: what they are called in figures.
        defaults: whether Kubernetes' default roles and their bindings are there, too.
        watched: files and directories that they come from; when these change, they are loaded again.

    Attributes:
        controllers: background work, which a front proxy runs: watches files.
        checks: lines of `/readyz`.

    Raises:
        ConfigurationError: every mistake in the objects, each with file, document and field.
    """

    def __init__(
        self,
        fetch: Callable[[], Callable[[], Sequence[Role | Binding]]],
        name: str,
        *,
        defaults: bool = True,
        watched: Sequence[Path] = (),
    ) -> None:
        self._fetch = fetch
        self._loading = threading.Lock()
        self._name = name
        self._defaults = defaults
        self._record = LoadRecord("authorization-rbac", name)
        self.checks: tuple[Check, ...] = (self._record,)
        self._turns = Turns(lambda: in_thread(self.reload), "loading roles and bindings")
        # What is changed while it is read for the first time is read again.
        watchers = [FileWatcher(watched, self.refresh, what="roles and bindings")] if watched else []
        self.controllers: tuple[Controller, ...] = tuple(watchers)
        self._snapshot = Snapshot(())
        self.reload()

    def __repr__(self) -> str:
        return f"RbacAuthorizer({self._name}, {len(self._snapshot.bindings)} bindings, revision {self.revision})"

    @classmethod
    def from_files(cls, *paths: Path | str, defaults: bool = True, watch: bool = False) -> RbacAuthorizer:
        """Read objects from files and directories; `reload` and `refresh` read them again.

        Args:
            paths: YAML or JSON files, with several documents and lists if need be; of a directory, the files right in
                it that end in .yaml, .yml or .json and do not begin with a dot.
            defaults: whether Kubernetes' default roles and their bindings are there, too.
            watch: read them again when they were changed, for as long as its `controllers` run.
        """
        files = [Path(path) for path in paths]
        name = ", ".join(map(str, paths))
        return cls(Manifests(files).fetch, name, defaults=defaults, watched=files if watch else ())

    @classmethod
    def from_objects(cls, objects: Collection[Mapping[str, object]], *, defaults: bool = True) -> RbacAuthorizer:
        """The same from objects as a manifest holds them; `reload` and `refresh` look at the collection again.

        Messages call them "object 1" and so on.
        """
        return cls(lambda: partial(read_objects, objects), "objects", defaults=defaults)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What in the loaded objects is probably meant otherwise: bindings of roles that there are not, for one."""
        return self._snapshot.warnings

    @property
    def revision(self) -> str:
        """Names what is in force: the same for the same objects, in every process."""
        return self._snapshot.revision

    def samples(self) -> Iterable[Sample]:
        """How often the objects were loaded, and what is in force."""
        return self._record.samples()

    def second_look(self) -> list[Problem]:
        """What is worth one besides: roles that nobody has, bindings for nobody, and what gives everything."""
        return list(second_look(self._snapshot, self._name))

    def reload(self) -> None:
        """Read the objects again and decide by them from now on. Blocks while it reads; safe in another thread.

        Raises:
            ConfigurationError: they are broken; what was loaded before stays in force.
        """
        with self._loading:  # so that what is read last is what stays
            read = self._fetch()  # a disk that hangs keeps nobody else from loading
            with beside_the_loop():
                self._swap(read)

    async def refresh(self) -> str:
        """The same, in a thread, while requests go on; gives the revision that is in force then.

        There is never more than one at a time: those who ask while objects are being read share one more reading.

        Raises:
            ConfigurationError: they are broken; what was loaded before stays in force.
        """
        await self._turns.take()
        return self.revision

    async def authorize(self, attributes: Attributes) -> Verdict:
        """The verdict on these attributes."""
        return self._snapshot.verdict(attributes)

    def verdict(self, attributes: Attributes) -> Verdict:
        """The same, at once."""
        return self._snapshot.verdict(attributes)

    async def explain(self, attributes: Attributes) -> Explanation:
        """The verdict with the binding, role and rule that decided; or the nearest rules, and what would allow it."""
        return await explain(self._snapshot, attributes)

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        """All rules that concern a caller, everywhere and in a namespace, in the order in which they are asked.

        As Kubernetes has it, a missing role is an `error`, and does not make the rules `incomplete`.
        """
        rules, fault = self.rules_of(identity, namespace)
        return Rules(
            tuple(
                ResourceRule(rule.verbs, rule.api_groups, rule.resources, rule.names)
                for rule in rules
                if rule.resources
            ),
            tuple(NonResourceRule(rule.verbs, rule.paths) for rule in rules if rule.paths),
            error=fault,
        )

    def rules_of(self, identity: Identity, namespace: str) -> tuple[tuple[PolicyRule, ...], str]:
        """The same as one list, for a check of what somebody may give to others, with what could not be found out."""
        snapshot = self._snapshot
        grants = snapshot.grants(identity, namespace)
        rules = tuple(rule for grant in grants if grant.role is not None for rule in grant.role.rules)
        return rules, snapshot.faults(identity, namespace)

    def role(self, binding: Binding) -> Role | None:
        """The role that a binding gives, with the rules that it comes to."""
        return self._snapshot.roles.get(binding.role_key)

    def granted(self) -> Granted:
        """What everybody has by the bindings."""
        return granted(self._snapshot)

    def _swap(self, read: Callable[[], Sequence[Role | Binding]]) -> None:
        try:
            snapshot = self._load(read)
        except Exception:
            self._record.failed()
            raise
        last: list[object] = [self._snapshot]
        self._snapshot = snapshot
        self._record.succeeded(snapshot.revision, len(snapshot.bindings))
        let_go(last, _PARTS)

    def _load(self, read: Callable[[], Sequence[Role | Binding]]) -> Snapshot:
        objects = list(read())
        if self._defaults:
            own = {each.key for each in objects}
            objects = [*(each for each in default_objects() if each.key not in own), *objects]
        snapshot = Snapshot(objects)
        for warning in snapshot.warnings:
            _log.warning("questionable policy", path=warning.path, problem=warning.message)
        return snapshot
