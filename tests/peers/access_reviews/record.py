"""What a real kube-apiserver says to access reviews, recorded.

    make kube-apiserver
    python tests/peers/access_reviews/record.py > tests/data/access-reviews.json.gz

It needs etcd, and takes a minute. kube-apiserver asks a webhook of ours who may do what, so each case has three parts:
the review that was sent, what kube-apiserver answered, and, where it came so far, what it asked and was told meanwhile.
"""

from __future__ import annotations

import gzip
import http.client
import json
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from aggmw.pki.make import issue_server, make_ca

KUBE_APISERVER = Path(__file__).parents[3] / ".cache" / "benchmarks" / "kube-apiserver"
CASES = 1500
SEED = 7
GROUP = "authorization.k8s.io"
VERDICTS: list[dict[str, Any]] = [
    {"allowed": True},
    {"allowed": True, "reason": "because"},
    {"allowed": False},
    {"allowed": False, "reason": "who knows"},
    {"allowed": False, "denied": True},
    {"allowed": False, "denied": True, "reason": "never"},
]


class Webhook:
    """Decides: whoever sends reviews may, and of what they ask about whatever comes next is said."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] | None = None
        self.verdict: dict[str, Any] = {}
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["content-length"])))
                resource = review["spec"].get("resourceAttributes", {})
                if resource.get("group") == GROUP:
                    review["status"] = {"allowed": True}
                else:
                    webhook.asked = review["spec"]
                    review["status"] = webhook.verdict
                body = json.dumps(review).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)


def reviews(chance: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Reviews as they are sent: the resource, and the object."""
    for _ in range(CASES):
        kind = chance.choice(
            ["SubjectAccessReview"] * 3 + ["LocalSubjectAccessReview"] * 2 + ["SelfSubjectAccessReview"] * 3
        )
        local = kind.startswith("Local")
        review: dict[str, Any] = {"apiVersion": f"{GROUP}/v1", "kind": kind, "spec": _spec(chance, kind)}
        if chance.random() < 0.15:
            review["metadata"] = chance.choice(
                [{}, {"name": "x"}, {"generateName": "x"}, {"labels": {"a": "b"}}, {"annotations": {}}]
            )
        if chance.random() < (0.4 if local else 0.03):
            namespace = chance.choice(["dev", "dev", "dev", "prod"])
            review["metadata"] = review.get("metadata", {}) | {"namespace": namespace}
        yield ("namespaces/dev/" if local else "") + f"{kind.lower()}s", review


def _spec(chance: random.Random, kind: str) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    if not kind.startswith("Self"):
        if chance.random() < 0.9:
            spec["user"] = chance.choice(["bob", "bob", "system:serviceaccount:dev:robot", ""])
        if chance.random() < 0.5:
            spec["groups"] = chance.choice([[], ["devs"], ["b", "a", "a"], ["system:authenticated"]])
        if chance.random() < 0.3:
            spec["uid"] = chance.choice(["", "7"])
        if chance.random() < 0.3:
            spec["extra"] = chance.choice([{}, {"example.com/team": ["x", "y"]}, {"scopes": []}])
    if chance.random() < 0.9:
        spec["resourceAttributes"] = _resource(chance, kind)
    if chance.random() < (0.05 if "resourceAttributes" in spec else 0.8):
        spec["nonResourceAttributes"] = {
            "path": chance.choice(["/healthz", "/logs/x", "", "x"]),
            "verb": chance.choice(["get", "post", "*"]),
        }
    return spec


def _resource(chance: random.Random, kind: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"verb": chance.choice(["get", "list", "list", "watch", "deletecollection", "update", "*"])}
    for name, values in (
        ("group", ["", "apps", "*"]),
        ("version", ["", "v1", "*"]),
        ("resource", ["pods", "deployments", "*", ""]),
        ("subresource", ["", "status"]),
        ("name", ["", "one"]),
    ):
        if chance.random() < 0.6:
            asked[name] = chance.choice(values)
    if kind.startswith("Local") or chance.random() < 0.6:
        asked["namespace"] = chance.choice(["dev"] * 8 + ["prod", ""])
    for name, raw in (
        ("fieldSelector", ["a=1", "b!=2,a==1", "a", "a=x=y", r"a=x\,y", "metadata.name=one", "=", ",a=1", " "]),
        ("labelSelector", ["a=1", "b , !c", "a in (y, x)", "a notin (x)", "a in ()", "(", "a=b,", "a>1", "-a=1", " "]),
    ):
        if chance.random() < 0.45:
            asked[name] = _selector(chance, raw)
    return asked


def _selector(chance: random.Random, raw: list[str]) -> dict[str, Any]:
    selector: dict[str, Any] = {}
    draw = chance.random()
    if draw < 0.5:
        selector["rawSelector"] = chance.choice(raw)
    if 0.45 < draw < 0.95:
        selector["requirements"] = [
            {
                "key": chance.choice(["a", "b", "example.com/c", "a", "-x", "", "UPPER/x"]),
                "operator": chance.choice(["In", "In", "NotIn", "Exists", "DoesNotExist", "GreaterThan", "Newer"]),
                **(
                    {"values": values}
                    if (values := chance.choice([[], ["1"], ["1"], ["2", "1"], ["x;"], [""]]))
                    else {}
                ),
            }
            for _ in range(chance.choice([1, 1, 1, 2, 2, 3]))
        ]
    return selector


@contextmanager
def started(log: Path, *command: str | Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen([str(word) for word in command], stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        webhook = Webhook()
        threading.Thread(target=webhook.server.serve_forever, daemon=True).start()
        stack.callback(webhook.server.shutdown)
        store, peer, port = free_port(), free_port(), free_port()
        authority = make_ca("front")
        pair = issue_server(authority, "localhost", names=["localhost", "127.0.0.1"])
        (place / "server.crt").write_bytes(pair.certificate)
        (place / "server.key").write_bytes(pair.key)
        (place / "tokens.csv").write_text('t,reviewer,1,"reviewers"\n')
        kubeconfig = {
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "a"}}],
            "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{webhook.server.server_port}/"}}],
        }
        (place / "webhook.kubeconfig").write_text(json.dumps(kubeconfig))
        client, members = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peer}"
        etcd = ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", members]
        etcd += ["--initial-advertise-peer-urls", members, "--initial-cluster", f"default={members}"]
        stack.enter_context(started(place / "etcd.log", "etcd", "--data-dir", place / "etcd", *etcd))
        stack.enter_context(
            started(
                place / "kube-apiserver.log",
                KUBE_APISERVER,
                f"--etcd-servers={client}",
                f"--secure-port={port}",
                "--bind-address=127.0.0.1",
                f"--tls-cert-file={place / 'server.crt'}",
                f"--tls-private-key-file={place / 'server.key'}",
                f"--cert-dir={place}",
                f"--token-auth-file={place / 'tokens.csv'}",
                "--authorization-mode=Webhook",
                f"--authorization-webhook-config-file={place / 'webhook.kubeconfig'}",
                "--authorization-webhook-version=v1",
                "--authorization-webhook-cache-authorized-ttl=1ms",
                "--authorization-webhook-cache-unauthorized-ttl=1ms",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--endpoint-reconciler-type=none",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={place / 'server.crt'}",
                f"--service-account-signing-key-file={place / 'server.key'}",
            )
        )
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        wait(port, context, place)
        cases = list(record(port, context, webhook))
    sys.stdout.buffer.write(gzip.compress(json.dumps(cases, separators=(",", ":")).encode(), mtime=0))


def wait(port: int, context: ssl.SSLContext, place: Path) -> None:
    """Until it answers."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            if ask(port, context, "GET", "/readyz")[0] in (200, 403):
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise TimeoutError((place / "kube-apiserver.log").read_text()[-3000:])


def ask(port: int, context: ssl.SSLContext, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
    try:
        headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def record(port: int, context: ssl.SSLContext, webhook: Webhook) -> Iterator[dict[str, Any]]:
    chance = random.Random(SEED)
    for path, review in reviews(chance):
        webhook.asked, webhook.verdict = None, chance.choice(VERDICTS)
        status, body = ask(port, context, "POST", f"/apis/{GROUP}/v1/{path}", json.dumps(review).encode())
        answer = json.loads(body)
        said = {name: answer[name] for name in ("status", "message", "details") if name in answer}
        asked = {"asked": webhook.asked, "verdict": webhook.verdict} if webhook.asked else {}
        yield {"path": path, "review": review, "code": status, "said": said, **asked}


if __name__ == "__main__":
    main()
