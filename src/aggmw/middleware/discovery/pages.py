"""What stands behind one path: a page answers from memory, from the few things of a request that matter to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from aggmw.contracts.exchange import Answer
from aggmw.middleware.discovery.health import Health
from aggmw.middleware.discovery.openapi_v3 import asked_hash, redirect, with_hash
from aggmw.objects.discovery import ONLY_JSON, choose
from aggmw.objects.etags import Document
from aggmw.objects.negotiation import negotiate

__all__ = [
    "Asked",
    "Fixed",
    "Forward",
    "ForwardedOpenApi",
    "GeneratedOpenApi",
    "HealthPage",
    "Negotiated",
    "Page",
    "Plain",
    "Published",
]


class Asked(NamedTuple):
    """What a page looks at.

    Attributes:
        accept: the Accept fields, joined; None without one.
        if_none_match: as sent; None without one.
        query: without the question mark.
        root: the mount in front of our paths, for locations.
    """

    accept: bytes | None = None
    if_none_match: bytes | None = None
    query: bytes = b""
    root: str = ""


class Forward(NamedTuple):
    """Not answered here: the backend is asked for this target, as the caller."""

    target: bytes


Reply: TypeAlias = Answer | Forward


class Page(Protocol):
    """One path.

    Attributes:
        warning: shown to the client as a `Warning` header; "" for none.
    """

    @property
    def warning(self) -> str: ...

    def reply(self, asked: Asked) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Plain:
    """One JSON document."""

    document: Document
    warning: str = ""

    def reply(self, asked: Asked) -> Reply:
        return choose(asked.accept, asked.if_none_match, self.document)


@dataclass(frozen=True, slots=True)
class Published:
    """A document of somebody else's, in a media type of its own: whoever asks for it knows which."""

    document: Document
    warning: str = ""

    def reply(self, asked: Asked) -> Reply:
        return self.document.answer(asked.if_none_match)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """A legacy document and an aggregated one: the Accept header chooses."""

    legacy: Document
    aggregated: Document
    warning: str = ""

    def reply(self, asked: Asked) -> Reply:
        return choose(asked.accept, asked.if_none_match, self.legacy, self.aggregated)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same answer."""

    answer: Answer
    warning: str = ""

    def reply(self, asked: Asked) -> Reply:
        return self.answer


@dataclass(frozen=True, slots=True)
class ForwardedOpenApi:
    """A document that the backend has: asked for without its hash, so that no redirect of the backend's arises.

    Args:
        path: here and there.
        hash: as in the index; "" when the backend tells none.
    """

    path: str
    hash: str
    warning: str = ""

    def reply(self, asked: Asked) -> Reply:
        hash_ = asked_hash(asked.query)
        if hash_ and self.hash and hash_ != self.hash:
            return redirect(asked.root, self.path, self.hash)
        return Forward(self.path.encode("ascii"))


@dataclass(frozen=True, slots=True)
class GeneratedOpenApi:
    """A document made from discovery."""

    path: str
    document: Document
    warning: str = ""

    def reply(self, asked: Asked) -> Reply:
        if negotiate(asked.accept, False) is None:
            return ONLY_JSON
        hash_ = asked_hash(asked.query)
        if not hash_:
            return self.document.answer(asked.if_none_match)
        if hash_ != self.document.hash:
            return redirect(asked.root, self.path, self.document.hash)
        return with_hash(self.document, asked.if_none_match)


@dataclass(frozen=True, slots=True)
class HealthPage:
    """An endpoint of health checks, or one check of it."""

    health: Health
    single: str = ""
    warning: str = ""

    def reply(self, asked: Asked) -> Reply:
        answer = self.health.single(self.single) if self.single else self.health.answer(asked.query)
        assert answer is not None  # pages are made only for checks that exist
        return answer
