"""Django, as WSGI: tasks.example.com/v1, in the front proxy's process, with the discovery that it serves itself.

    aggmw serve --config examples/wsgi/config.yaml

Who asks is in `request.META`: the name in REMOTE_USER, all of it in `aggmw.identity`.
"""

import json
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from aggmw.objects.status import status_object

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="an example")

GROUP_VERSION = "tasks.example.com/v1"
TASK = {"name": "tasks", "singularName": "task", "namespaced": False, "kind": "Task"}
tasks: dict[str, dict[str, Any]] = {}


def resources(request: HttpRequest) -> JsonResponse:
    listed = [{**TASK, "verbs": ["create", "get", "list"]}]
    kind = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION}
    return JsonResponse({**kind, "resources": listed})


def all_tasks(request: HttpRequest) -> JsonResponse:
    if request.method == "POST":
        task = json.loads(request.body)
        identity = request.META["aggmw.identity"]
        task["spec"] = {**task.get("spec", {}), "owner": request.META["REMOTE_USER"], "groups": identity.groups}
        tasks[task["metadata"]["name"]] = task
        return JsonResponse(task, status=201)
    items = [*tasks.values()]
    return JsonResponse({"apiVersion": GROUP_VERSION, "kind": "TaskList", "metadata": {}, "items": items})


def one_task(request: HttpRequest, name: str) -> JsonResponse:
    if name not in tasks:
        return JsonResponse(status_object(404, "NotFound", f'tasks "{name}" not found'), status=404)
    return JsonResponse(tasks[name])


urlpatterns = [
    path(f"apis/{GROUP_VERSION}", resources),
    path(f"apis/{GROUP_VERSION}/tasks", all_tasks),
    path(f"apis/{GROUP_VERSION}/tasks/<name>", one_task),
]
wsgi = get_wsgi_application()
