"""Documents in memory: the whole answer, the 304 beside it, and the tag that tells them apart."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from aggmw.asgi.types import Headers
from aggmw.contracts.exchange import Answer

__all__ = ["Document", "digest", "make_document"]


def digest(content: bytes) -> str:
    """SHA-512 in upper-case hexadecimal, as Kubernetes writes its tags and OpenAPI hashes."""
    return hashlib.sha512(content).hexdigest().upper()


class Document(NamedTuple):
    """One encoded document.

    Attributes:
        full: 200 with the body.
        unchanged: 304, with the fields that a cache needs.
        hash: the digest of the body.
    """

    full: Answer
    unchanged: Answer
    hash: str

    def answer(self, if_none_match: bytes | None) -> Answer:
        """304 when one of the tags presented is exactly ours (RFC 9110 §13.1.2), else 200."""
        if if_none_match is not None and _holds(if_none_match, b'"%b"' % self.hash.encode()):
            return self.unchanged
        return self.full


def _holds(presented: bytes, tag: bytes) -> bool:
    return presented == tag or (b"," in presented and tag in [each.strip() for each in presented.split(b",")])


def make_document(body: bytes, content_type: bytes, headers: Headers) -> Document:
    """A document, its headers prepared.

    Args:
        body: as it is sent.
        content_type: exactly as clients compare it.
        headers: the caching fields, sent with 200 and 304 alike.
    """
    hash_ = digest(body)
    caching = ((b"etag", b'"%b"' % hash_.encode()), *headers)
    return Document(Answer(200, ((b"content-type", content_type), *caching), body), Answer(304, caching, b""), hash_)
