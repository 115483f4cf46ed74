"""What this server says it has: the legacy documents and the aggregated one (`apidiscovery.k8s.io/v2`)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .objects import API_VERSION, GROUP, KIND, RESOURCE, VERSION
from .storage import Object

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
STATUS_VERBS = ["get", "patch", "update"]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_VERSION = {"groupVersion": API_VERSION, "version": VERSION}
_GROUP_DOCUMENT = {"name": GROUP, "versions": [_VERSION], "preferredVersion": _VERSION}
_RESOURCE = {"name": RESOURCE, "singularName": "flunder", "namespaced": True, "kind": KIND, "verbs": VERBS}
_RESOURCE |= {"shortNames": ["fl"], "categories": ["all"]}
_STATUS = {"name": f"{RESOURCE}/status", "singularName": "", "namespaced": True, "kind": KIND, "verbs": STATUS_VERBS}
DOCUMENTS: dict[str, Object] = {
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP_DOCUMENT]},
    f"/apis/{GROUP}": {"kind": "APIGroup", "apiVersion": "v1", **_GROUP_DOCUMENT},
    f"/apis/{API_VERSION}": {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": API_VERSION,
        "resources": [_RESOURCE, _STATUS],
    },
}
_AGGREGATED_KIND = {"group": GROUP, "version": VERSION, "kind": KIND}
_AGGREGATED_RESOURCE = {
    "resource": RESOURCE,
    "responseKind": _AGGREGATED_KIND,
    "scope": "Namespaced",
    "singularResource": "flunder",
    "verbs": VERBS,
    "shortNames": ["fl"],
    "categories": ["all"],
    "subresources": [{"subresource": "status", "responseKind": _AGGREGATED_KIND, "verbs": STATUS_VERBS}],
}
AGGREGATED_DOCUMENT = {
    "kind": "APIGroupDiscoveryList",
    "apiVersion": "apidiscovery.k8s.io/v2",
    "metadata": {},
    "items": [
        {
            "metadata": {"name": GROUP},
            "versions": [{"version": VERSION, "freshness": "Current", "resources": [_AGGREGATED_RESOURCE]}],
        }
    ],
}


async def discovery(request: Request) -> Response:
    """The document of this path; at `/apis` in the form that the client asks for."""
    path = request.scope["path"]
    accept = request.headers.get("accept", "").replace(" ", "")
    if path == "/apis" and any(set(AGGREGATED.split(";")) <= set(clause.split(";")) for clause in accept.split(",")):
        return JSONResponse(AGGREGATED_DOCUMENT, media_type=AGGREGATED, headers={"vary": "Accept"})
    return JSONResponse(DOCUMENTS[path.rstrip("/")], headers={"vary": "Accept"})
