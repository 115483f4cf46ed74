"""The aggregation layer of a real kube-apiserver, doing what `FrontProxy` does in P3: the same token, as many bindings
of others' rights as there are rules, the same backend behind an APIService, the caller told to it.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from subprocess import Popen
from typing import Any

from aggmw.pki.make import make_ca
from benchmarks.machine import free_port
from benchmarks.workspace import GROUP, ONE, SERVER_NAME, TOKEN, Workspace

__all__ = ["Start", "start_aggregator"]

Start = Callable[[str, list[str | Path], int | None], "Popen[str]"]
"""Starts a process: the name of its log, its arguments, its core."""

_ADMIN = "administrator-token"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_NAMESPACES = 50
_STARTUP_SECONDS = 60.0
_SERVICE, _NAMESPACE, _ = SERVER_NAME.split(".")


def start_aggregator(
    start: Start, programs: tuple[str, str], workspace: Workspace, cores: tuple[int | None, int | None], backend: int
) -> tuple[int, int]:
    """Start etcd and kube-apiserver, and register the backend. Both end with whoever `start` ends them with.

    Args:
        start: starts a process.
        programs: of kube-apiserver and etcd.
        workspace: certificates, and where both keep their files.
        cores: of kube-apiserver and of etcd.
        backend: the backend's port, with TLS.

    Returns:
        Port and process of kube-apiserver.

    Raises:
        TimeoutError: it does not come up.
    """
    store, peer, port = free_port(), free_port(), free_port()
    accounts = make_ca("service accounts")  # only its key is used
    (workspace.path / "accounts.key").write_bytes(accounts.key)
    (workspace.path / "accounts.crt").write_bytes(accounts.certificate)
    (workspace.path / "tokens.csv").write_text(f"{_ADMIN},admin,1,system:masters\n{TOKEN},alice,2,developers\n")
    start("etcd", [programs[1], *_etcd(workspace, store, peer)], cores[1])
    process = start("kube-apiserver", [programs[0], *_kube_apiserver(workspace, store, port)], cores[0])
    api = _Api(port, ssl.create_default_context(cafile=str(workspace.certificate("front-ca"))))
    api.wait("/readyz", _ADMIN)
    _register(api, workspace, backend)
    api.wait(ONE, TOKEN)
    return port, process.pid


def _etcd(workspace: Workspace, store: int, peer: int) -> list[str | Path]:
    return [
        f"--data-dir={workspace.path / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{store}",
        f"--advertise-client-urls=http://127.0.0.1:{store}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    ]


def _kube_apiserver(workspace: Workspace, store: int, port: int) -> list[str | Path]:
    return [
        f"--etcd-servers=http://127.0.0.1:{store}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--tls-cert-file={workspace.certificate('front')}",
        f"--tls-private-key-file={workspace.key('front')}",
        f"--cert-dir={workspace.path}",
        f"--token-auth-file={workspace.path / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        f"--proxy-client-cert-file={workspace.certificate('front-proxy')}",
        f"--proxy-client-key-file={workspace.key('front-proxy')}",
        f"--requestheader-client-ca-file={workspace.certificate('front-proxy-ca')}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={workspace.path / 'accounts.crt'}",
        f"--service-account-signing-key-file={workspace.path / 'accounts.key'}",
    ]


def _register(api: _Api, workspace: Workspace, backend: int, bindings: int = 1000) -> None:
    """The backend as an APIService, its right for the caller, and rights of others."""
    for name in (_NAMESPACE, *(f"ns-{number}" for number in range(_NAMESPACES))):
        api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": backend}]}
    api.create(f"/api/v1/namespaces/{_NAMESPACE}/services", {"metadata": {"name": _SERVICE}, "spec": service})
    registration = {
        "group": GROUP,
        "version": "v1",
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
        "caBundle": base64.b64encode(workspace.certificate("back-ca").read_bytes()).decode(),
        "service": {"namespace": _NAMESPACE, "name": _SERVICE, "port": backend},
    }
    api.create(
        "/apis/apiregistration.k8s.io/v1/apiservices", {"metadata": {"name": f"v1.{GROUP}"}, "spec": registration}
    )
    rules = [{"apiGroups": [GROUP], "resources": ["things"], "verbs": ["get", "list", "watch"]}]
    api.create(f"{_RBAC}/clusterroles", {"metadata": {"name": "developer"}, "rules": rules})
    api.create(f"{_RBAC}/namespaces/dev/rolebindings", _binding("Group", "developers"))
    for number in range(bindings):
        namespace = f"ns-{number % _NAMESPACES}"
        api.create(f"{_RBAC}/namespaces/{namespace}/rolebindings", _binding("User", f"user-{number}"))


def _binding(kind: str, name: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "developer"},
        "subjects": [{"apiGroup": group, "kind": kind, "name": name}],
    }


class _Api:
    """Asks kube-apiserver."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._connection: http.client.HTTPSConnection | None = None

    def create(self, path: str, body: dict[str, Any]) -> None:
        """Create an object.

        Raises:
            RuntimeError: refused.
        """
        status, said = self._ask("POST", path, _ADMIN, json.dumps(body))
        if status != 201:
            raise RuntimeError(f"POST {path}: {status} {said.decode(errors='replace')[:300]}")

    def wait(self, path: str, token: str) -> None:
        """Until it answers with 200.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + _STARTUP_SECONDS
        for _ in _pauses(deadline):
            try:
                if self._ask("GET", path, token)[0] == 200:
                    return
            except OSError:
                self._connection = None
        raise TimeoutError(f"kube-apiserver did not answer {path} within {_STARTUP_SECONDS:.0f} s")

    def _ask(self, method: str, path: str, token: str, body: str | None = None) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=20, context=self._context)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def _pauses(deadline: float) -> Iterator[int]:
    for number in count():
        if time.monotonic() > deadline:
            return
        yield number
        time.sleep(0.25)
