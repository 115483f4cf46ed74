"""Which form of a discovery document a client understands, by its Accept header (wire contract §3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

__all__ = ["AGGREGATED_TYPE", "Form", "MediaType", "is_aggregated", "negotiate", "parse_accept", "parse_media_type"]

AGGREGATED_TYPE = b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""What is asked for and answered: client-go compares it to choose its parser."""

_RANGES = frozenset({"application/json", "application/*", "*/*"})
_TRANSFORM = frozenset({"g", "v", "as"})
_MAX_CLAUSES = 64


class Form(Enum):
    """The two shapes of `/api` and `/apis`."""

    LEGACY = 0
    AGGREGATED = 1


class MediaType(NamedTuple):
    """A media type or range, in lower case, and its parameters; `q` apart."""

    name: str
    parameters: Mapping[str, str]
    quality: float = 1.0


def parse_media_type(text: str) -> MediaType:
    """A `Content-Type` or one clause of an `Accept`. Parameters may come in any order; names ignore case."""
    name, *rest = text.split(";")
    parameters: dict[str, str] = {}
    quality = 1.0
    for each in rest:
        key, equals, value = each.partition("=")
        key, value = key.strip().lower(), value.strip().strip('"')
        if key == "q":
            quality = _quality(value)
        elif equals:
            parameters.setdefault(key, value)
    return MediaType(name.strip().lower(), parameters, quality)


def _quality(text: str) -> float:
    """A weight from 0 to 1; what is none counts as 1."""
    try:
        quality = float(text)
    except ValueError:
        return 1.0
    return quality if 0.0 <= quality <= 1.0 else 1.0


def parse_accept(text: str) -> list[MediaType]:
    """The clauses by weight, then as listed; those of weight 0 are left out, and all beyond the 64th."""
    clauses = [parse_media_type(clause) for clause in text.split(",", _MAX_CLAUSES)[:_MAX_CLAUSES] if clause.strip()]
    return sorted((each for each in clauses if each.quality > 0), key=lambda each: -each.quality)


def is_aggregated(media_type: MediaType) -> bool:
    """Whether this is the aggregated document, version 2. Version v2beta1 is gone since Kubernetes 1.35."""
    name, parameters, _ = media_type
    return (
        name == "application/json"
        and parameters.get("g") == "apidiscovery.k8s.io"
        and parameters.get("v") == "v2"
        and parameters.get("as") == "APIGroupDiscoveryList"
    )


@lru_cache(maxsize=256)
def negotiate(accept: bytes | None, aggregated: bool) -> Form | None:
    """The first form that the client accepts and the path has, or None (406).

    Args:
        accept: the Accept fields, joined with commas; None when there are none, which accepts the legacy form.
        aggregated: whether the path has the aggregated form.
    """
    if accept is None:
        return Form.LEGACY
    return next(_forms(accept.decode("latin-1"), aggregated), None)


def _forms(accept: str, aggregated: bool) -> Iterator[Form]:
    clauses = parse_accept(accept)
    if not accept.strip():
        yield Form.LEGACY
    for clause in clauses:
        if aggregated and is_aggregated(clause):
            yield Form.AGGREGATED
        elif clause.name in _RANGES and not _TRANSFORM & clause.parameters.keys():
            yield Form.LEGACY
