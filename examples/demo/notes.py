"""An API group as a FastAPI application: notes.example.com/v1, in memory. It runs in the front proxy's own process."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request

from aggmw.backend import ServeDiscovery, StatusErrors, resource
from aggmw.errors import StatusError

GROUP, VERSION = "notes.example.com", "v1"
API_VERSION, NOTES = f"{GROUP}/{VERSION}", f"/apis/{GROUP}/{VERSION}/notes"
NOTE = resource("notes", "Note", namespaced=False, short_names=["nt"], verbs=["create", "delete", "get", "list"])

app = FastAPI(title="Notes", openapi_url=None)
app.add_middleware(StatusErrors)
app.add_middleware(ServeDiscovery, groups={GROUP: {VERSION: [NOTE]}})

notes: dict[str, dict[str, Any]] = {}
revisions = count(1)


@app.get(NOTES)
async def list_notes() -> dict[str, Any]:
    metadata = {"resourceVersion": str(next(revisions))}
    return {"apiVersion": API_VERSION, "kind": "NoteList", "metadata": metadata, "items": list(notes.values())}


@app.post(NOTES, status_code=201)
async def create_note(request: Request, note: dict[str, Any]) -> dict[str, Any]:
    name = note.get("metadata", {}).get("name", "")
    if not name:
        raise StatusError(422, "Invalid", "metadata.name: Required value")
    if name in notes:
        raise StatusError(409, "AlreadyExists", f'notes.{GROUP} "{name}" already exists')
    metadata = {
        "name": name,
        "uid": str(uuid4()),
        "resourceVersion": str(next(revisions)),
        "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "annotations": {f"{GROUP}/author": request.scope["aggmw.identity"].user},
    }
    notes[name] = {**note, "apiVersion": API_VERSION, "kind": "Note", "metadata": metadata}
    return notes[name]


@app.get(NOTES + "/{name}")
async def get_note(name: str) -> dict[str, Any]:
    if name not in notes:
        raise StatusError(404, "NotFound", f'notes.{GROUP} "{name}" not found')
    return notes[name]


@app.delete(NOTES + "/{name}")
async def delete_note(name: str) -> dict[str, Any]:
    await get_note(name)
    return notes.pop(name)
