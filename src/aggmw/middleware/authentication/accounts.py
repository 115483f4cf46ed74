"""StaticAccounts: service accounts, and what their tokens are bound to, from a file of Kubernetes objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

from aggmw.errors import ConfigurationError, Problem
from aggmw.objects.fields import Fields
from aggmw.objects.names import is_group, is_service
from aggmw.objects.yaml_files import read_documents

__all__ = ["StaticAccounts"]

_Key: TypeAlias = tuple[str, str, str]
_ACCOUNT = "ServiceAccount"
_KINDS = (_ACCOUNT, "Pod", "Secret", "Node")


class StaticAccounts:
    """An `AccountLookup` over a list that somebody else keeps.

    Args:
        uids: by kind ("ServiceAccount", "Pod", "Secret" or "Node"), namespace ("" for a node) and name.

    Raises:
        ValueError: another kind, or an empty uid.
    """

    def __init__(self, uids: Mapping[tuple[str, str, str], str]) -> None:
        for (kind, _, name), uid in uids.items():
            if kind not in _KINDS:
                raise ValueError(f"{kind} {name}: must be one of {', '.join(_KINDS)}")
            if not uid:
                raise ValueError(f"{kind} {name}: the uid is empty")
        self._uids = dict(uids)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StaticAccounts:
        """Read a YAML file of `v1` objects, as `kubectl get serviceaccounts -A -o yaml` writes them: one list, or
        several documents. Of each only kind and metadata are looked at; what is being deleted is gone.

        Raises:
            ConfigurationError: every mistake, each with its path.
        """
        accounts = cls({})
        accounts._uids = dict(_Reader(Path(path)).read())
        return accounts

    def __repr__(self) -> str:
        return f"StaticAccounts({sum(kind == _ACCOUNT for kind, *_ in self._uids)} accounts)"

    @property
    def revision(self) -> object:
        """As `AccountLookup.revision`."""
        return self._uids

    def swap(self, other: StaticAccounts) -> None:
        """Hold what the other one holds from now on."""
        if self._uids != other._uids:
            self._uids = other._uids

    async def account(self, namespace: str, name: str) -> str | None:
        """As `AccountLookup.account`."""
        return self._uids.get((_ACCOUNT, namespace, name))

    async def bound(self, kind: str, namespace: str, name: str) -> str | None:
        """As `AccountLookup.bound`."""
        return self._uids.get((kind, namespace, name))


class _Reader:
    """One pass over a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[Problem] = []

    def read(self) -> Iterable[tuple[_Key, str]]:
        found: dict[_Key, str] = {}
        for document in read_documents(self._path):
            where = f"{self._path}:{document.line}"
            if not isinstance(document.value, dict):
                self._problems.append(Problem(where, "must be an object"))
                continue
            for key, uid in self._objects(Fields(document.value, partial(self._report, where))):
                if found.setdefault(key, uid) != uid:
                    self._problems.append(Problem(where, f"{' '.join(filter(None, key))} is listed twice"))
        if self._problems:
            raise ConfigurationError(self._problems)
        return found.items()

    def _report(self, where: str, path: str, message: str) -> None:
        self._problems.append(Problem(f"{where}: {path}", message))

    def _objects(self, fields: Fields) -> Iterator[tuple[_Key, str]]:
        kind = fields.text("kind")
        if kind.endswith("List"):
            for each in fields.each("items"):
                yield from self._objects(each)
            return
        if fields.text("apiVersion") != "v1" or kind not in _KINDS:
            fields.problem("kind", f"must be one of {', '.join(_KINDS)}, of apiVersion v1")
            return
        metadata = fields.inner("metadata")
        if metadata is None:
            fields.required("metadata")
            return
        namespace, name, uid = (metadata.text(key) for key in ("namespace", "name", "uid"))
        before = len(self._problems)
        if not is_group(name):
            metadata.problem("name", "must be the name of an object")
        if kind != "Node" and not is_service(namespace):
            metadata.problem("namespace", "must be the name of a namespace")
        if not uid:
            metadata.required("uid")
        if len(self._problems) == before and "deletionTimestamp" not in metadata:
            yield (kind, "" if kind == "Node" else namespace, name), uid
