"""What `kubectl get` shows: `meta.k8s.io/v1 Table`, made by the server that knows the kind."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from aggmw.errors import StatusError

from .storage import Object

_COLUMNS = [
    {"name": "Name", "type": "string", "format": "name", "description": "Unique within its namespace.", "priority": 0},
    {"name": "Reference", "type": "string", "format": "", "description": "spec.reference", "priority": 0},
    {"name": "Ready", "type": "string", "format": "", "description": "The condition Ready.", "priority": 0},
    {"name": "Age", "type": "string", "format": "", "description": "Since metadata.creationTimestamp.", "priority": 0},
]
_JSON_TYPES = ("application/json", "application/*", "*/*")
MEDIA_TYPES = "application/json, application/json;as=Table;v=v1;g=meta.k8s.io"


def table_version(accept: str) -> str:
    """The version of Table that the first acceptable clause asks for; "" for the objects themselves.

    Raises:
        StatusError: 406, no clause can be met.
    """
    clauses = [_clause(text) for text in (accept or "*/*").split(",")]
    for media_type, parameters in sorted(clauses, key=lambda clause: -_quality(clause[1])):
        if media_type not in _JSON_TYPES or _quality(parameters) == 0:
            continue
        if "as" not in parameters:
            return ""
        wanted = (parameters["as"], parameters.get("g"), parameters.get("v"))
        if wanted in (("Table", "meta.k8s.io", "v1"), ("Table", "meta.k8s.io", "v1beta1")):
            return parameters["v"]
    raise StatusError(406, "NotAcceptable", f"only the following media types are accepted: {MEDIA_TYPES}")


def table(
    objects: Iterable[Object], revision: str, version: str, include: str = "Metadata", *, columns: bool = True
) -> Object:
    """Objects as rows.

    Args:
        revision: for the table's own metadata; watches and `kubectl get -w` go on from it.
        version: "v1" or "v1beta1".
        include: what a row carries besides its cells: "None", "Metadata" or "Object".
        columns: whether the columns are described; in a watch only the first event does.
    """
    made: Object = {"kind": "Table", "apiVersion": f"meta.k8s.io/{version}", "metadata": {"resourceVersion": revision}}
    made["columnDefinitions"] = _COLUMNS if columns else []
    made["rows"] = [_row(object_, version, include) for object_ in objects]
    return made


def _row(object_: Object, version: str, include: str) -> Object:
    metadata = object_["metadata"]
    conditions = object_.get("status", {}).get("conditions", [])
    ready = next((each["status"] for each in conditions if each["type"] == "Ready"), "")
    cells: list[Any] = [metadata.get("name", ""), object_.get("spec", {}).get("reference", ""), ready]
    cells.append(_age(metadata.get("creationTimestamp")))
    if include == "None":
        return {"cells": cells}
    if include == "Object":
        return {"cells": cells, "object": object_}
    partial = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": metadata}
    return {"cells": cells, "object": partial}


def _age(created: str | None) -> str:
    if created is None:
        return "<unknown>"
    return age((datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds())


def age(seconds: float) -> str:
    """A duration in at most two units, coarser the longer it is."""
    seconds = max(0, int(seconds))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 2:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if days < 2:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    return f"{days}d"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"


def _clause(text: str) -> tuple[str, dict[str, str]]:
    media_type, *parameters = [part.strip() for part in text.split(";")]
    pairs = (parameter.partition("=") for parameter in parameters)
    return media_type.lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
