"""Kinds that the front proxy serves itself, and what they are told of a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from aggmw.contracts.catalog import APIResource
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo

__all__ = ["Object", "VirtualKind", "WriteContext"]

Object = dict[str, Any]
"""An object as JSON has it."""


@dataclass(frozen=True, slots=True)
class WriteContext:
    """What a kind may know of the request that writes.

    Args:
        identity: who asks; authorised already.
        request_info: what was asked for.
        dry_run: nothing may stay behind.
        warnings: texts for `Warning` headers may be added.
    """

    identity: Identity
    request_info: RequestInfo
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list, compare=False)


class VirtualKind(Protocol):
    """A kind whose objects are answers: it can be created, and nothing is stored.

    An attribute `subresource` may name one of `resource.subresources`: then that is what is created, of the object that
    `context.request_info` names, and the resource itself is not served. Only such a kind may be in the core group.

    Attributes:
        group, version: of its API.
        resource: what discovery tells; its verbs, or its subresource's, are ("create",). One that is namespaced is
            created in a namespace, which `context.request_info` has, and nowhere else.
    """

    group: str
    version: str
    resource: APIResource

    async def create(self, value: Object, context: WriteContext) -> Object:
        """The answer to an object.

        Args:
            value: with apiVersion and kind; its fields have the types of `objects.messages`, absent ones may be absent.
            context: of the request.

        Returns:
            the same object, completed.

        Raises:
            StatusError: the object is wrong.
        """
        ...
