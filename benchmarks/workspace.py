"""What every server of a run needs: certificates, policies, and the words they agree on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca

__all__ = ["GROUP", "ONE", "STREAMS", "TOKEN", "Workspace", "resource_list", "rules"]

GROUP = "bench.example.com"
"""Served by nginx: small answers and one large one."""

STREAMS = "stream.example.com"
"""Served by `benchmarks.upstream`: uploads and watches."""

ONE = f"/apis/{GROUP}/v1/namespaces/dev/things/one"
LARGE = f"/apis/{GROUP}/v1/namespaces/dev/things/large"
UPLOAD = f"/apis/{STREAMS}/v1/namespaces/dev/blobs/large"
WATCH = f"/apis/{STREAMS}/v1/namespaces/dev/blobs?watch=true"

TOKEN = "benchmark-token-0123456789abcdef"
SERVER_NAME = "things.dev.svc"
ANSWER = json.dumps(
    {
        "kind": "Thing",
        "apiVersion": f"{GROUP}/v1",
        "metadata": {
            "name": "one",
            "namespace": "dev",
            "uid": "6f1c3a52-90f4-4b0e-9d9c-0d6ad2b2f6a1",
            "resourceVersion": "1042",
            "labels": {"app": "benchmark"},
        },
        "spec": {"size": 3, "colour": "blue"},
        "status": {"phase": "Ready"},
    },
    separators=(",", ":"),
)


def resource_list(group: str, resource: str, kind: str) -> str:
    """What a server says at `/apis/G/V`."""
    verbs = ["get", "list", "watch", "update"]
    each = {"name": resource, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
    return json.dumps(
        {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/v1", "resources": [each]}
    )


def rules(number: int) -> str:
    """A policy of so many rows: roles, their members, rules for groups and users; the last few concern the caller."""
    rows = []
    for index in range(max(0, number - 8)):
        match index % 4:
            case 0:
                rows.append(f"p, group:group-{index // 4}, *, {GROUP}, things, ns-{index // 4}, *")
            case 1:
                rows.append(f"p, user:user-{index // 4}, update|patch, {GROUP}, things/status, ns-{index // 4}, own")
            case 2:
                rows.append(f"p, role:team-{index // 4}, get|list|watch, {GROUP}, things, ns-{index // 4}, *")
            case _:
                rows.append(f"g, user:user-{index // 4}, role:team-{index // 4}")
    rows += [
        "g, group:developers, role:developer",
        f"p, role:developer, get|list|watch, {GROUP}, things, dev, *",
        f"p, role:developer, *, {STREAMS}, *, dev, *",
        f"p, group:on-call, delete, {GROUP}, things, dev, *",
        f"p, group:team-a, update|patch, {GROUP}, things|things/status, dev, *",
        f"p, user:alice, delete, {GROUP}, things, dev, own",
        "p2, group:system:authenticated, get, /api|/apis|/apis/*|/readyz",
        "p2, group:system:unauthenticated, get, /healthz|/readyz",
    ]
    return "\n".join(rows) + "\n"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A directory of one run. Names of files are properties of it; nothing in it outlives the run."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> Workspace:
        """Write the certificates. Front and backend have authorities of their own."""
        workspace = cls(path)
        for side, names in (("front", ["localhost", "127.0.0.1"]), ("back", [SERVER_NAME, "127.0.0.1"])):
            authority = make_ca(f"benchmark {side}")
            workspace._write(f"{side}-ca", authority)
            workspace._write(side, issue_server(authority, side, names=names))
        authority = make_ca("benchmark front-proxy")
        workspace._write("front-proxy-ca", authority)
        workspace._write("front-proxy", issue_client(authority, "front-proxy"))
        return workspace

    def certificate(self, name: str) -> Path:
        """The PEM file of front, back, front-proxy, or the authority of one with `-ca`."""
        return self.path / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.path / f"{name}.key"

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def _write(self, name: str, pair: KeyPair) -> None:
        self.certificate(name).write_bytes(pair.certificate)
        self.key(name).write_bytes(pair.key)
