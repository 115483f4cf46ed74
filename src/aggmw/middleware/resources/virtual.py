"""Create-only kinds: which request is for which, and its way from body to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias, TypeVar
from urllib.parse import parse_qs

import structlog

from aggmw.contracts.catalog import APIGroup, APIVersion, GroupVersionKind
from aggmw.contracts.exchange import Answer
from aggmw.contracts.identity import Identity
from aggmw.contracts.kinds import VirtualKind, WriteContext
from aggmw.contracts.options import check_seam
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import AggmwError, StatusError, fault
from aggmw.objects.bodies import ExpectedKind, FieldValidation, decode_object, encode_object, form_for
from aggmw.objects.discovery import group_version
from aggmw.objects.status import status_answer

__all__ = ["VirtualKinds", "checked_kinds"]

_Key: TypeAlias = tuple[str, str, str, str]
"""Group, version, resource and subresource."""

_T = TypeVar("_T")
_SMALL = 16 * 1024
"""Bytes of a body: up to here a thread would cost more than it saves."""

_log = structlog.get_logger("aggmw.resources")

_NOT_ALLOWED = status_answer(
    405,
    "MethodNotAllowed",
    "the server does not allow this method on the requested resource",
    headers=((b"allow", b"POST"),),
)
_NOT_FOUND = status_answer(404, "NotFound", "the server could not find the requested resource", {})


def checked_kinds(kinds: Iterable[VirtualKind]) -> tuple[VirtualKind, ...]:
    """The kinds, each once.

    Raises:
        TypeError: something that is no kind.
        ValueError: two kinds of one resource, a resource in the core group, or a subresource that is not listed.
    """
    found = tuple(kinds)
    seen: set[_Key] = set()
    for number, kind in enumerate(found):
        check_seam(f"kinds[{number}]", kind, "create")
        key = _key(kind)
        if not kind.group and not key[3]:
            raise ValueError(f"kinds[{number}]: {kind.resource.name} must have a group")
        if key[3] and all(each.name != key[3] for each in kind.resource.subresources):
            raise ValueError(f"kinds[{number}]: {kind.resource.name} has no subresource {key[3]}")
        if key in seen:
            raise ValueError(f"kinds[{number}]: {kind.resource.name} of {kind.group}/{kind.version} is given twice")
        seen.add(key)
    return found


class VirtualKinds:
    """The kinds of one front proxy.

    Args:
        kinds: each with a group, version and resource of its own.

    Raises:
        TypeError, ValueError: as `checked_kinds`.
    """

    def __init__(self, kinds: Iterable[VirtualKind]) -> None:
        self._kinds: Mapping[_Key, VirtualKind] = {_key(kind): kind for kind in checked_kinds(kinds)}
        # One for all, so that large bodies wait for each other and not everybody for them.
        self._aside = ThreadPoolExecutor(1, "aggmw kinds")

    def __repr__(self) -> str:
        return f"VirtualKinds({', '.join(sorted(kind.resource.name for kind in self._kinds.values()))})"

    @property
    def groups(self) -> tuple[APIGroup, ...]:
        """For discovery."""
        found: dict[str, dict[str, list[VirtualKind]]] = {}
        for kind in self._kinds.values():
            found.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
        return tuple(
            APIGroup(
                group,
                tuple(
                    APIVersion(version, tuple(kind.resource for kind in sorted(kinds, key=_name)))
                    for version, kinds in versions.items()
                ),
            )
            for group, versions in found.items()
        )

    def find(self, info: RequestInfo) -> VirtualKind | Answer | None:
        """The kind to create; the refusal of what else is asked of one; None when the request is for none of them."""
        if not info.is_resource:
            return None
        key = (info.api_group, info.api_version, info.resource)
        kind = self._kinds.get((*key, info.subresource))
        if kind is None:
            return _NOT_FOUND if (*key, "") in self._kinds else None
        if bool(info.name) is not bool(info.subresource) or bool(info.namespace) is not kind.resource.namespaced:
            return _NOT_FOUND
        return kind if info.method == "POST" and info.verb == "create" else _NOT_ALLOWED

    async def create(
        self,
        kind: VirtualKind,
        info: RequestInfo,
        identity: Identity,
        warnings: list[str],
        *,
        content_type: str | None,
        accept: str | None,
        body: bytes,
    ) -> Answer:
        """Decode, ask the kind, encode: what is large, in a thread.

        Args:
            kind: from `find`.
            info: what was asked for.
            identity: who asks.
            warnings: may grow.
            content_type, accept: the header fields; None where there is none.
            body: whole.

        Raises:
            StatusError: the request or its object is wrong.
        """
        form = form_for(accept)
        dry_run, validation = _options(info.target)
        shape = _shape(kind)
        expected = ExpectedKind(group_version(shape.group, shape.version), shape.kind)
        size = len(body)
        value, warned = await self._beside(size, partial(decode_object, content_type, body, expected, validation))
        warnings.extend(warned)
        try:
            answer = await kind.create(value, WriteContext(identity, info, dry_run, warnings))
        except (AggmwError, TimeoutError):
            raise
        except Exception as error:
            _log.error("a kind failed", resource=kind.resource.name, **fault(error))
            raise StatusError(500, "InternalError", "Internal error occurred: the kind failed") from error
        headers = ((b"content-type", form.encode()), (b"cache-control", b"no-cache, private"))
        return Answer(201, headers, await self._beside(size, partial(encode_object, answer, form)))

    async def _beside(self, size: int, work: Callable[[], _T]) -> _T:
        """What `work` gives, in its turn; at once where the body is small. Who leaves before that is not worked for."""
        if size <= _SMALL:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)


def _key(kind: VirtualKind) -> _Key:
    return kind.group, kind.version, kind.resource.name, getattr(kind, "subresource", "")


def _name(kind: VirtualKind) -> str:
    return kind.resource.name


def _shape(kind: VirtualKind) -> GroupVersionKind:
    """Of the objects."""
    if not (subresource := _key(kind)[3]):
        return kind.resource.kind
    return next(each.kind for each in kind.resource.subresources if each.name == subresource)


def _options(target: bytes) -> tuple[bool, FieldValidation]:
    """`dryRun` and `fieldValidation` (`metav1.CreateOptions`)."""
    query = parse_qs(target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True)
    dry_run = [each for each in query.get("dryRun", []) if each]
    if any(each != "All" for each in dry_run):
        raise _invalid_option("dryRun", dry_run, ["All"])
    asked = query.get("fieldValidation", [""])[0] or FieldValidation.WARN.value
    try:
        validation = FieldValidation(asked)
    except ValueError:
        raise _invalid_option("fieldValidation", [asked], sorted(each.value for each in FieldValidation)) from None
    return bool(dry_run), validation


def _invalid_option(name: str, given: Sequence[str], supported: Sequence[str]) -> StatusError:
    shown = ", ".join(f'"{each}"' for each in supported)
    message = f'Unsupported value: "{given[0][:80]}": supported values: {shown}'
    return StatusError(
        422,
        "Invalid",
        f'CreateOptions.meta.k8s.io "" is invalid: {name}: {message}',
        {
            "group": "meta.k8s.io",
            "kind": "CreateOptions",
            "causes": [{"reason": "FieldValueNotSupported", "message": message, "field": name}],
        },
    )
