"""The 403 of a refused request, in Kubernetes' words (wire contract §7.4; `responsewriters.Forbidden`)."""

from __future__ import annotations

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.exchange import Answer
from aggmw.objects.status import qualified, status_answer

__all__ = ["forbidden", "quoted"]

_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_SHORT = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def forbidden(attributes: Attributes, reason: str = "") -> Answer:
    """The answer to a request that may not be made.

    Args:
        attributes: what was decided on.
        reason: the verdict's; appended when there is one, so it must be safe to show.
    """
    message = _sentence(attributes).translate(_ESCAPED)
    if reason:
        message = f"{message}: {reason}"
    details: dict[str, str] = {}
    if attributes.name:
        details["name"] = attributes.name
    if attributes.api_group:
        details["group"] = attributes.api_group
    if attributes.resource:
        details["kind"] = attributes.resource
    return status_answer(403, "Forbidden", f"{_subject(attributes)}forbidden: {message}", details)


def _subject(attributes: Attributes) -> str:
    if not attributes.resource:
        return ""
    resource = qualified(attributes.resource, attributes.api_group)
    return f"{resource} {quoted(attributes.name)} is " if attributes.name else f"{resource} is "


def _sentence(attributes: Attributes) -> str:
    user = quoted(attributes.identity.user)
    if not attributes.is_resource:
        return f"User {user} cannot {attributes.verb} path {quoted(attributes.path)}"
    resource = attributes.resource
    if attributes.subresource:
        resource = f"{resource}/{attributes.subresource}"
    where = f"in the namespace {quoted(attributes.namespace)}" if attributes.namespace else "at the cluster scope"
    return (
        f"User {user} cannot {attributes.verb} resource {quoted(resource)}"
        f" in API group {quoted(attributes.api_group)} {where}"
    )


def quoted(text: str) -> str:
    """The text in double quotes, as Go's `%q` writes it: what is not printable is escaped."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_character, text)) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
