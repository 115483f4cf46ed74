"""Options that several commands have, and how mistakes are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from aggmw.config.load import MOST_WORKERS
from aggmw.errors import ConfigurationError

__all__ = ["ConfigOption", "DirectoryOption", "HostOption", "PortOption", "WorkersOption", "reported"]

_T = TypeVar("_T")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="AGGMW_CONFIG", metavar="FILE", help="Configuration, YAML.")
]
HostOption = Annotated[
    str | None,
    typer.Option("--host", envvar="AGGMW_HOST", metavar="HOST", help="Address to listen on.", show_default="127.0.0.1"),
]
PortOption = Annotated[
    int | None,
    typer.Option(
        "--port",
        envvar="AGGMW_PORT",
        metavar="PORT",
        min=0,
        max=65535,
        help="Port to listen on; 0 takes a free one.",
        show_default="6443",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        envvar="AGGMW_WORKERS",
        metavar="NUMBER",
        min=1,
        max=MOST_WORKERS,
        help="Processes that serve; with several, a supervisor keeps them.",
        show_default="1",
    ),
]
DirectoryOption = Annotated[
    Path, typer.Option("--dir", envvar="AGGMW_DIR", metavar="DIR", help="Certificates, keys and kubeconfig.")
]


def reported(action: Callable[[], _T]) -> _T:
    """Do it; every configuration mistake is printed, and the command ends with status 2."""
    try:
        return action()
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
