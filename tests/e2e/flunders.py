"""What the tests of every client say about flunders: where they are, what one looks like, what a refusal says."""

from __future__ import annotations

from typing import Any

GROUP, VERSION, PLURAL, KIND = "wardle.example.com", "v1alpha1", "flunders", "Flunder"
API_VERSION = f"{GROUP}/{VERSION}"
BASE = f"/apis/{API_VERSION}"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PAINTED = {"type": "Painted", "status": "True"}
UNSUPPORTED = (
    "the body of the request was in an unknown format - accepted media types include: "
    "application/merge-patch+json, application/json-patch+json"
)


def path(namespace: str = "", name: str = "") -> str:
    """Of one flunder, of all in a namespace, of all in all namespaces."""
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{BASE}{middle}/{PLURAL}" + (f"/{name}" if name else "")


def flunder(name: str, reference: str = "hello", namespace: str = "dev") -> dict[str, Any]:
    """A flunder to create; its label is what the fixture `name` cleans up by."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace, "labels": {"test": name}},
        "spec": {"reference": reference},
    }


def about(name: str) -> dict[str, str]:
    """The details of a Status about one flunder."""
    return {"name": name, "group": GROUP, "kind": PLURAL}


def forbidden(user: str, verb: str, namespace: str = "") -> str:
    """What somebody is told who may not work with flunders in a namespace, or in all."""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    return (
        f'{PLURAL}.{GROUP} is forbidden: User "{user}" cannot {verb} resource "{PLURAL}" in API group "{GROUP}" {where}'
    )


def modified(name: str) -> str:
    """What somebody is told who updates from an old resourceVersion."""
    return (
        f'Operation cannot be fulfilled on {PLURAL}.{GROUP} "{name}": '
        "the object has been modified; please apply your changes to the latest version and try again"
    )
