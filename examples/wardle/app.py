"""Routes, what discovery says of them, and what each verb does with flunders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from aggmw.backend import APISubresource, ServeDiscovery, StatusErrors, resource
from aggmw.errors import StatusError
from aggmw.objects.status import status_object

from .objects import (
    API_VERSION,
    GROUP,
    KIND,
    QUALIFIED,
    RESOURCE,
    VERSION,
    about,
    check,
    conflict,
    created,
    decode,
    invalid,
    named,
    settled,
    updated,
    with_status,
)
from .patches import JSON_PATCH, MERGE_PATCH, change_of
from .queries import check_list, flag, included, is_dry_run, is_strict, wanted_objects, watch_of
from .storage import Object, Storage
from .tables import table, table_version
from .watching import Lines

BODY_LIMIT = 3 * 1024 * 1024
JSON = "application/json"
FLUNDERS = resource(
    RESOURCE,
    KIND,
    verbs=["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
    short_names=["fl"],
    categories=["all"],
    subresources=[APISubresource("status", verbs=("get", "patch", "update"))],
)
Take = Callable[[Object, Object], Object]  # what was sent, what is stored: what is to be stored


def make_app(storage: Storage, *, ready_after: float = 0.0) -> Starlette:
    """The API without its doorkeeper: put `trust.FrontProxyOnly` around it.

    Args:
        storage: where flunders are kept.
        ready_after: seconds until a new flunder's condition Ready is True; 0 is at once.
    """
    flunders = Flunders(storage, ready_after)
    base = f"/apis/{API_VERSION}"
    one_namespace = f"{base}/namespaces/{{namespace}}/{RESOURCE}"
    app = Starlette(
        routes=[
            *[Route(path, _healthy) for path in ("/healthz", "/livez", "/readyz")],
            Route(f"{base}/{RESOURCE}", flunders.read),
            Route(one_namespace, flunders.read),
            Route(one_namespace, flunders.create, methods=["POST"]),
            Route(one_namespace, flunders.delete_collection, methods=["DELETE"]),
            Route(one_namespace + "/{name}", flunders.get),
            Route(one_namespace + "/{name}", flunders.update, methods=["PUT"]),
            Route(one_namespace + "/{name}", flunders.patch, methods=["PATCH"]),
            Route(one_namespace + "/{name}", flunders.delete, methods=["DELETE"]),
            Route(one_namespace + "/{name}/status", flunders.get),
            Route(one_namespace + "/{name}/status", flunders.update_status, methods=["PUT"]),
            Route(one_namespace + "/{name}/status", flunders.patch_status, methods=["PATCH"]),
        ],
        middleware=[Middleware(StatusErrors), Middleware(ServeDiscovery, groups={GROUP: {VERSION: [FLUNDERS]}})],
        exception_handlers={HTTPException: _not_routed, Exception: _broken},
    )
    app.router.redirect_slashes = False  # a redirect would name the host that the client sent
    return app


class Flunders:
    """The verbs. Nothing awaits between reading an object and writing it, so no write is lost."""

    def __init__(self, storage: Storage, ready_after: float) -> None:
        self._storage = storage
        self._ready_after = ready_after

    async def get(self, request: Request) -> Response:
        return self._answer(request, self._stored(request))

    async def read(self, request: Request) -> Response:
        """list, or watch."""
        query = request.query_params
        wanted = wanted_objects(query, request.path_params.get("namespace", ""))
        if flag(query, "watch"):
            version = table_version(request.headers.get("accept", ""))
            return Lines(watch_of(query, self._storage.revision, version).lines(self._storage, wanted))
        check_list(query, self._storage.revision)
        return self._answer_list(request, list(filter(wanted, self._storage.all())))

    async def create(self, request: Request) -> Response:
        sent = decode((await self._body(request, JSON))[1])
        metadata, namespace = sent.get("metadata") or {}, request.path_params["namespace"]
        check(sent, namespace, strict=is_strict(request.query_params))
        if metadata.get("resourceVersion"):
            raise StatusError(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        name = named(metadata)
        if self._storage.get((namespace, name)) is not None:
            raise StatusError(409, "AlreadyExists", f'{QUALIFIED} "{name}" already exists', about(name))
        flunder = created(sent, namespace, name, ready=not self._ready_after)
        if not is_dry_run(request.query_params.getlist("dryRun")):
            flunder = self._storage.put((namespace, name), flunder)
            if self._ready_after:
                uid = flunder["metadata"]["uid"]
                asyncio.get_running_loop().call_later(self._ready_after, self._settle, (namespace, name), uid)
        return self._answer(request, flunder, 201)

    async def update(self, request: Request) -> Response:
        return await self._update(request, updated)

    async def update_status(self, request: Request) -> Response:
        return await self._update(request, with_status)

    async def patch(self, request: Request) -> Response:
        return await self._patch(request, updated)

    async def patch_status(self, request: Request) -> Response:
        return await self._patch(request, with_status)

    async def delete(self, request: Request) -> Response:
        dry_run, preconditions = await self._delete_options(request)
        stored = self._stored(request)
        _check_preconditions(stored, preconditions)
        if not dry_run:
            self._storage.remove(_key(stored))
        details = {**about(stored["metadata"]["name"]), "uid": stored["metadata"]["uid"]}
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return JSONResponse(body)

    async def delete_collection(self, request: Request) -> Response:
        dry_run, _ = await self._delete_options(request)
        query = request.query_params
        wanted = wanted_objects(query, request.path_params["namespace"])
        doomed = list(filter(wanted, self._storage.all()))
        if not dry_run:
            doomed = [self._storage.remove(_key(flunder)) for flunder in doomed]
        return self._answer_list(request, doomed)

    def _stored(self, request: Request) -> Object:
        name = request.path_params["name"]
        stored = self._storage.get((request.path_params["namespace"], name))
        if stored is None:
            raise StatusError(404, "NotFound", f'{QUALIFIED} "{name}" not found', about(name))
        return stored

    async def _update(self, request: Request, take: Take) -> Response:
        sent = decode((await self._body(request, JSON))[1])
        check(sent, request.path_params["namespace"], strict=is_strict(request.query_params))
        name, metadata = request.path_params["name"], sent.get("metadata") or {}
        stored = self._stored(request)
        if not metadata.get("resourceVersion"):
            raise invalid(name, "metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
        return self._answer(request, self._write(request, sent, stored, take))

    async def _patch(self, request: Request, take: Take) -> Response:
        change = change_of(*await self._body(request, MERGE_PATCH, JSON_PATCH))
        stored = self._stored(request)
        sent = change(stored)
        check(sent, request.path_params["namespace"], strict=is_strict(request.query_params))
        return self._answer(request, self._write(request, sent, stored, take))

    def _write(self, request: Request, sent: Object, stored: Object, take: Take) -> Object:
        """Replace `stored` by what `take` takes of what was sent, unless somebody else has, or nothing changes."""
        before, metadata = stored["metadata"], sent.get("metadata") or {}
        name = before["name"]
        if metadata.get("name", name) != name:
            what = f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            raise StatusError(400, "BadRequest", what)
        if metadata.get("uid", before["uid"]) != before["uid"]:
            raise conflict(
                name,
                f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {before['uid']}",
            )
        if metadata.get("resourceVersion", before["resourceVersion"]) != before["resourceVersion"]:
            what = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(name, what)
        flunder = take(sent, stored)
        if flunder == stored or is_dry_run(request.query_params.getlist("dryRun")):
            return flunder
        return self._storage.put(_key(stored), flunder)

    def _settle(self, key: tuple[str, str], uid: str) -> None:
        stored = self._storage.get(key)
        if stored is not None and stored["metadata"]["uid"] == uid:
            self._storage.put(key, settled(stored, ready=True))

    async def _delete_options(self, request: Request) -> tuple[bool, Object]:
        """Whether nothing is to be done, and the preconditions; `DeleteOptions` come in the body or not at all."""
        _, body = await self._body(request, JSON)
        options = decode(body) if body else {}
        dry_run, preconditions = options.get("dryRun") or [], options.get("preconditions") or {}
        if not isinstance(dry_run, list) or not isinstance(preconditions, dict):
            raise StatusError(400, "BadRequest", "the body of the request is not DeleteOptions")
        return is_dry_run([*request.query_params.getlist("dryRun"), *dry_run]), preconditions

    async def _body(self, request: Request, *accepted: str) -> tuple[str, bytes]:
        """Media type and body; without a Content-Type it is JSON, and without a body the type does not matter."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_LIMIT}")
        media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if body and media_type not in accepted:
            what = "the body of the request was in an unknown format - accepted media types include: "
            raise StatusError(415, "UnsupportedMediaType", what + ", ".join(accepted))
        return media_type, body

    def _answer(self, request: Request, flunder: Object, status: int = 200) -> Response:
        if version := table_version(request.headers.get("accept", "")):
            revision = flunder["metadata"].get("resourceVersion", "")
            return JSONResponse(table([flunder], revision, version, included(request.query_params)), status)
        return JSONResponse(flunder, status)

    def _answer_list(self, request: Request, flunders: list[Object]) -> Response:
        revision = str(self._storage.revision)
        if version := table_version(request.headers.get("accept", "")):
            return JSONResponse(table(flunders, revision, version, included(request.query_params)))
        kind = {"kind": f"{KIND}List", "apiVersion": API_VERSION, "metadata": {"resourceVersion": revision}}
        return JSONResponse({**kind, "items": flunders})


def _key(flunder: Object) -> tuple[str, str]:
    return flunder["metadata"]["namespace"], flunder["metadata"]["name"]


def _check_preconditions(stored: Object, preconditions: Object) -> None:
    metadata = stored["metadata"]
    for field in ("uid", "resourceVersion"):
        wanted = preconditions.get(field)
        if wanted is not None and wanted != metadata[field]:
            what = f"Precondition failed: {field} in precondition: {wanted}, in object: {metadata[field]}"
            raise conflict(metadata["name"], what)


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _not_routed(_: Request, error: Any) -> NoReturn:
    reason, what = {
        404: ("NotFound", "the server could not find the requested resource"),
        405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    }.get(error.status_code, ("BadRequest", "the request cannot be handled"))
    raise StatusError(error.status_code, reason, what)


async def _broken(_: Request, error: Any) -> Response:
    return JSONResponse(status_object(500, "InternalError", "Internal error occurred"), 500)
