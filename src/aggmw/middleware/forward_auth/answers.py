"""Answers in the words that each proxy understands, and the caller in fields that it can pass on."""

from __future__ import annotations

from urllib.parse import quote

from aggmw.asgi.headers import first
from aggmw.asgi.types import Headers
from aggmw.contracts.exchange import Answer
from aggmw.contracts.identity import Identity
from aggmw.middleware.forward_auth.questions import CALLER, Proxy

__all__ = ["allowing", "fields_of", "refusing"]

_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%,")
_UNCACHED = (b"cache-control", b"no-cache, private")
_CHALLENGE = (b"www-authenticate", b"Bearer")
_KNOWN_TO_NGINX = frozenset({401, 403})


def allowing(identity: Identity) -> Answer:
    """200, the one status that all of them take for a yes, and who the caller is."""
    return Answer(200, (*fields_of(identity), _UNCACHED), b"")


def refusing(proxy: Proxy, answer: Answer) -> Answer:
    """A refusal with its words.

    nginx knows 401 and 403 alone and makes an error of all others, so there what the stages refuse with another 4xx
    is a 403. RFC 9110 wants a challenge beside each 401.
    """
    status, headers, body = answer
    headers = tuple([field for field in headers if field[0] != b"content-length"])
    if status == 401 and first(headers, b"www-authenticate") is None:
        headers = (*headers, _CHALLENGE)
    if proxy == "nginx" and 400 <= status < 500 and status not in _KNOWN_TO_NGINX:
        status = 403
    return Answer(status, headers, body)


def fields_of(identity: Identity) -> Headers:
    """`X-Auth-Request-User` and `X-Auth-Request-Groups`: both, always, so that a client's own are replaced.

    Groups are separated by commas. What is no printable ASCII, and percent signs and commas in a name, are
    percent-encoded: to be undone after the groups were told apart.
    """
    user, groups = CALLER
    return (
        (user, _safe(identity.user).encode("ascii")),
        (groups, ",".join(map(_safe, identity.groups)).encode("ascii")),
    )


def _safe(text: str) -> str:
    return quote(text, safe=_PLAIN)
