"""Authorizers in the order of Kubernetes' `AuthorizationConfiguration` file, which may change while the server runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from aggmw.contracts.authorization import Authorizer
from aggmw.contracts.catalog import Check, Controller
from aggmw.contracts.metrics import Sample
from aggmw.contracts.threads import in_thread
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.authorization_configuration import AuthorizationConfiguration, NamedAuthorizer
from aggmw.middleware.authorization.records import LoadRecord
from aggmw.middleware.authorization.union import Union
from aggmw.middleware.authorization.watching import FileWatcher
from aggmw.middleware.authorization.webhook import SubjectAccessReviewWebhook

__all__ = ["ConfiguredAuthorizers"]


class ConfiguredAuthorizers(Union):
    """The authorizers of a file, in its order. Put `PrivilegedGroups` in front of it: the file does not name them.

    When the file is read again, webhooks begin with nothing remembered. A file that is broken changes nothing.

    Attributes:
        controllers: background work, which a front proxy runs: watches the file.
        checks: a line of `/readyz`.

    Args:
        path: a file of `apiserver.config.k8s.io/v1` (or v1beta1, v1alpha1), in YAML or JSON.
        known: what stands for the types "RBAC" and "Casbin". Each that is given must be in the file: a policy that
            nobody asks would be no policy.
        watch: read the file again when it was changed, for as long as `controllers` run.

    Raises:
        ConfigurationError: every mistake, each with its path.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, known: Mapping[str, Authorizer] | None = None, watch: bool = False
    ) -> None:
        self._path = Path(path)
        self._known = dict(known or {})
        self._record = LoadRecord("authorization-configuration", str(path))
        self.checks: tuple[Check, ...] = (self._record,)
        watcher = FileWatcher([self._path], self.refresh, what="authorization configuration")
        self.controllers: tuple[Controller, ...] = (watcher,) if watch else ()
        self._begun = self._in_force = 0
        self._types: dict[str, str] = {}
        self._webhooks: dict[str, SubjectAccessReviewWebhook] = {}
        super().__init__(())
        self.reload()

    def __repr__(self) -> str:
        return f"ConfiguredAuthorizers({str(self._path)!r}, {list(self.members)!r})"

    @property
    def revision(self) -> str:
        """That of the file, and those of the authorizers that have one."""
        return f"{self._record.revision} {super().revision}".rstrip()

    def reload(self) -> None:
        """Read the file again and ask what it says from now on. Blocks while it reads.

        Raises:
            ConfigurationError: it is broken; what was read before stays in force.
        """
        self._begun += 1
        self._put(self._begun, *self._read())

    async def refresh(self) -> str:
        """The same, in a thread, while requests go on; gives the revision of the file that is in force then."""
        self._begun += 1
        number = self._begun
        self._put(number, *await in_thread(self._read))
        return self._record.revision

    def samples(self) -> Iterator[Sample]:
        """How often the file was read, how many authorizers it has, and what each of them has decided."""
        yield from self._record.samples()
        told = "Requests that an authorizer allowed or denied; who left them to others is not counted."
        for name, allowed, denied in self.decisions:
            for decision, count in (("allowed", allowed), ("denied", denied)):
                labels = (("type", self._types[name]), ("name", name), ("decision", decision))
                yield Sample("apiserver_authorization_decisions_total", told, "counter", labels, count)

    def _read(self) -> tuple[tuple[NamedAuthorizer, ...], str]:
        try:
            found = AuthorizationConfiguration.load(self._path, known=self._known)
            return found.authorizers, hashlib.sha256(self._path.read_bytes()).hexdigest()[:12]
        except OSError as error:
            self._record.failed()
            raise ConfigurationError([Problem.unreadable(self._path, error)]) from error
        except ConfigurationError:
            self._record.failed()
            raise

    def _put(self, number: int, authorizers: tuple[NamedAuthorizer, ...], revision: str) -> None:
        if number < self._in_force:
            return  # what was read later is there already
        self._in_force = number
        for each in authorizers:
            before = self._webhooks.get(each.name)
            if before is not None and isinstance(each.authorizer, SubjectAccessReviewWebhook):
                each.authorizer.count_on(before)
        self._webhooks = {
            each.name: each.authorizer
            for each in authorizers
            if isinstance(each.authorizer, SubjectAccessReviewWebhook)
        }
        self._types = {each.name: each.type for each in authorizers}
        self.swap([each.authorizer for each in authorizers], names=[each.name for each in authorizers])
        self._record.succeeded(revision, len(authorizers))
