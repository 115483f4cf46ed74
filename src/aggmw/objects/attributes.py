"""From what was asked and who asks to what is decided on."""

from __future__ import annotations

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.objects.selectors import field_selector, label_selector

__all__ = ["attributes_of", "handshake_attributes"]

_STREAMS = frozenset({"attach", "exec", "portforward"})


def attributes_of(identity: Identity, info: RequestInfo) -> Attributes:
    """The attributes of a request (`authorizer.Attributes`): its resource fields, or its path when it names none.

    Selectors are in one spelling. One that does not parse is left out: then the whole collection is asked for.
    """
    if not info.is_resource:
        return Attributes(identity, info.verb, is_resource=False, path=info.path)
    return Attributes(
        identity,
        info.verb,
        True,
        info.api_group,
        info.api_version,
        info.resource,
        info.subresource,
        info.namespace,
        info.name,
        "",
        field_selector(info.field_selector) if info.field_selector else "",
        label_selector(info.label_selector) if info.label_selector else "",
    )


def handshake_attributes(attributes: Attributes) -> Attributes | None:
    """What a WebSocket handshake needs besides its own verb, or None.

    A handshake is a GET, and over exec, attach and portforward the caller does more than read: without this the right
    to get pods would be a shell in each of them (wire contract §7.4b).
    """
    if attributes.is_resource and attributes.subresource in _STREAMS and attributes.verb != "create":
        return attributes._replace(verb="create")
    return None
