"""What a row may say under the model that ships: every mistake that can be seen without knowing what it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from aggmw.middleware.authorization.casbin.policy import Row

__all__ = ["row_faults", "row_warnings", "unused_roles"]

_VERB = re.compile(r"[a-z][a-z0-9:*-]*")
_GROUP = re.compile(r"core|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_RESOURCE = re.compile(r"(\*/|([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"[^/*]+")

_NAMESPACE_HINT = "write a name (lower case letters, digits and -), or * for all namespaces and the cluster scope"
_RESOURCE_VERBS = frozenset(
    {
        *("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy"),
        *("impersonate", "bind", "escalate", "approve", "sign", "attest", "use", "unsafe-delete-ignore-read-errors"),
    }
)
_PATH_VERBS = frozenset({"get", "head", "post", "put", "patch", "delete", "options"})
_WHOLE = frozenset({"*", "list", "watch", "deletecollection"})


def row_faults(row: Row) -> Iterator[str]:
    """What is wrong with a row whose number of columns is right."""
    if row.ptype == "g":
        yield from _subject(row[0], "the member")
        if not _is_subject(row[1], ("role",)):
            yield f"grants '{row[1]}', which is no role: write role:NAME"
        return
    yield from _subject(row[0], "the subject")
    yield from _each("verb", row[1], _VERB, "verbs are written in lower case, like get|list|watch")
    if row.ptype == "p":
        yield from _each("apiGroup", row[2], _GROUP, "write core for the core group, or * for every group")
        yield from _each("resource", row[3], _RESOURCE, "write flunders, flunders/status, */status or *")
        yield from _each("namespace", row[4], _NAMESPACE, _NAMESPACE_HINT)
        yield from _each("name", row[5], _NAME, "write a name without / and *, or * for every name and for none")
    else:
        yield from _paths(row[2])


def row_warnings(row: Row) -> Iterator[str]:
    """What is likely to be meant otherwise."""
    yield from _subject_warnings(row[0])
    if row.ptype == "g":
        return
    known = _RESOURCE_VERBS if row.ptype == "p" else _PATH_VERBS
    for verb in row[1].split("|"):
        if verb != "*" and verb not in known and ":" not in verb:
            yield f"names the verb '{verb}', which no request for a {'resource' if row.ptype == 'p' else 'path'} has"
    if row.ptype == "p" and row[6] == "deny" and not _WHOLE.isdisjoint(row[1].split("|")):
        if row[5] != "*":
            yield "denies a name, which does not stop list, watch and deletecollection of the whole collection"
        elif row[4] != "*":
            yield "denies a namespace, which does not stop list and watch over all namespaces at once"
    if row.ptype == "p" and row[6] == "deny":
        yield from _subresource_warnings(row[3].split("|"))


def _subject_warnings(subject: str) -> Iterator[str]:
    kind, _, name = subject.partition(":")
    if "*" in name or "|" in name:
        everybody = "; for everybody write group:system:authenticated" if name == "*" else ""
        yield f"is about the one {kind} called '{name}': there are no patterns in subjects{everybody}"


def _subresource_warnings(resources: Sequence[str]) -> Iterator[str]:
    """A denied resource, of which no subresource is denied."""
    for resource in resources:
        if "/" not in resource and resource != "*" and not any("/" in other for other in resources):
            yield (
                f"denies {resource}, which does not stop its subresources: name those it has too,"
                f" like {resource}|{resource}/status"
            )


def unused_roles(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """Roles that are granted and allow nothing, and roles with rules that nobody has: the usual slip of the pen."""
    ruled = {row[0] for row in rows if row.ptype != "g"}
    members = {row[0] for row in rows if row.ptype == "g"}
    granted = {row[1] for row in rows if row.ptype == "g"}
    told: set[str] = set()
    for row in rows:
        role = row[1] if row.ptype == "g" else row[0]
        if not role.startswith("role:") or role in told:
            continue
        if row.ptype == "g" and role not in ruled and role not in members:
            told.add(role)
            yield row, f"grants {role}, for which there is no rule"
        elif row.ptype != "g" and role not in granted:
            told.add(role)
            yield row, f"is about {role}, which is granted to nobody"


def _is_subject(text: str, kinds: tuple[str, ...] = ("user", "group", "role")) -> bool:
    kind, _, name = text.partition(":")
    return bool(name) and kind in kinds


def _subject(text: str, what: str) -> Iterator[str]:
    if not _is_subject(text):
        yield f"has '{text}' as {what}: write user:NAME, group:NAME or role:NAME"


def _each(column: str, text: str, form: re.Pattern[str], hint: str) -> Iterator[str]:
    if text != "*" and not _are_all(text, form):
        yield f"has {column} '{text}': {hint}"


@lru_cache(1024)  # most rows of a long policy say the same
def _are_all(text: str, form: re.Pattern[str]) -> bool:
    """Whether each of several alternatives has this form."""
    return all(map(form.fullmatch, text.split("|")))


def _paths(text: str) -> Iterator[str]:
    if text == "*":
        return
    for path in text.split("|"):
        if not path.startswith("/") or "*" in path[:-1]:
            yield f"has path '{text}': write /path, /beginning* or *"
            return
