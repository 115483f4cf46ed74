"""The query of a request: what lists, watches and writes may be asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from aggmw.errors import StatusError

from .objects import selection
from .storage import Object
from .watching import Watch


def wanted_objects(query: Mapping[str, str], namespace: str) -> Callable[[Object], bool]:
    """What the URL's namespace ("" is all of them) and the query's selectors select."""
    return selection(namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))


def check_list(query: Mapping[str, str], latest: int) -> None:
    """Reads are always the latest, which is what every answer but an exact old revision may be."""
    revision, match = _revision(query), query.get("resourceVersionMatch", "")
    if query.get("continue"):
        raise StatusError(400, "BadRequest", "invalid continue token: this server sends lists whole")
    if match and not revision:
        raise _invalid_options("resourceVersionMatch", "Forbidden: it needs a resourceVersion")
    if revision > latest:
        what = f"Timeout: Too large resource version: {revision}, current: {latest}"
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        raise StatusError(504, "Timeout", what, {"causes": causes, "retryAfterSeconds": 1})
    if match == "Exact" and revision != latest:
        what = f"too old resource version: {revision} ({latest})"
        raise StatusError(410, "Expired", what)


def watch_of(query: Mapping[str, str], latest: int, table: str) -> Watch:
    """How to watch: where to begin, what to send first, when to end."""
    revision, match = _revision(query), query.get("resourceVersionMatch", "")
    initial = flag(query, "sendInitialEvents")
    if ("sendInitialEvents" in query) is not bool(match):
        raise _invalid_options("resourceVersionMatch", "Forbidden: it goes together with sendInitialEvents")
    if match not in ("", "NotOlderThan"):
        raise _invalid_options(
            "resourceVersionMatch", f'Unsupported value: "{match}": supported values: "NotOlderThan"'
        )
    since: int | None = revision or None
    if match:
        since = None if initial else revision or latest
    try:
        timeout = float(query.get("timeoutSeconds") or 0)
    except ValueError as error:
        raise StatusError(400, "BadRequest", "timeoutSeconds is not a number") from error
    return Watch(
        since=since,
        marks_end=initial,
        bookmarks=flag(query, "allowWatchBookmarks"),
        timeout=timeout if timeout > 0 else random.uniform(1800, 3600),
        table=table,
        include=included(query),
    )


def flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "") in ("1", "t", "T", "true", "True", "TRUE")


def is_strict(query: Mapping[str, str]) -> bool:
    return query.get("fieldValidation") == "Strict"


def included(query: Mapping[str, str]) -> str:
    include = query.get("includeObject", "Metadata")
    if include not in ("None", "Metadata", "Object"):
        raise StatusError(400, "BadRequest", f"unrecognized includeObject value: {include!r}")
    return include


def is_dry_run(values: Sequence[str]) -> bool:
    if any(value != "All" for value in values):
        raise _invalid_options("dryRun", 'Unsupported value: supported values: "All"')
    return bool(values)


def _revision(query: Mapping[str, str]) -> int:
    text = query.get("resourceVersion") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise StatusError(400, "BadRequest", f"invalid resource version: {text!r}")
    return int(text)


def _invalid_options(field: str, what: str) -> StatusError:
    return StatusError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {field}: {what}')
