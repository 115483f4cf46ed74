"""Flask: notes.example.com/v1, in the front proxy's process, on threads.

    aggmw serve --config examples/wsgi/config.yaml

`ServeDiscovery` and `StatusErrors` are ASGI and stand around it. Flask lets exceptions through to the latter.
"""

import json
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

from flask import Flask, request

from aggmw.backend import ServeDiscovery, StatusErrors, WsgiApplication, resource
from aggmw.errors import StatusError

GROUP = "notes.example.com"
NOTES = f"/apis/{GROUP}/v1/notes"

flask = Flask(__name__)
flask.config["PROPAGATE_EXCEPTIONS"] = True
notes: dict[str, dict[str, Any]] = {}
revisions = count(1)


@flask.get(NOTES)
def list_notes() -> dict[str, Any]:
    metadata = {"resourceVersion": str(next(revisions))}
    return {"apiVersion": f"{GROUP}/v1", "kind": "NoteList", "metadata": metadata, "items": [*notes.values()]}


@flask.post(NOTES)
def create_note() -> tuple[dict[str, Any], int]:
    note = json.loads(request.data)
    name = note["metadata"]["name"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = {"uid": str(uuid4()), "resourceVersion": str(next(revisions)), "creationTimestamp": now}
    note["metadata"] |= {**made, "annotations": {f"{GROUP}/author": request.remote_user}}
    if notes.setdefault(name, note) is not note:
        raise StatusError(409, "AlreadyExists", f'notes.{GROUP} "{name}" already exists')
    return note, 201


@flask.get(f"{NOTES}/<name>")
@flask.delete(f"{NOTES}/<name>")
def one_note(name: str) -> dict[str, Any]:
    if name not in notes:
        raise StatusError(404, "NotFound", f'notes.{GROUP} "{name}" not found')
    return notes.pop(name) if request.method == "DELETE" else notes[name]


note = resource("notes", "Note", namespaced=False, short_names=["nt"], verbs=["create", "delete", "get", "list"])
app = ServeDiscovery(StatusErrors(WsgiApplication(flask)), groups={GROUP: {"v1": [note]}})
