"""The commands that serve, and those that look at what would be served."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated

import typer

import aggmw
from aggmw.cli.options import ConfigOption, DirectoryOption, HostOption, PortOption, WorkersOption, reported
from aggmw.config import Configuration, load

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The Kubernetes aggregation layer in Python: a front proxy that authenticates, authorizes, and forwards.",
)

checks = typer.Typer(no_args_is_help=True, help="Look at a configuration without serving it.")
app.add_typer(checks, name="check")


@app.command()
def serve(
    config: ConfigOption = None,
    directory: DirectoryOption = Path(".aggmw"),
    host: HostOption = None,
    port: PortOption = None,
    workers: WorkersOption = None,
) -> None:
    """Serve the front proxy over TLS.

    On the first start DIR gets a certificate authority, certificates, and DIR/admin.kubeconfig; later starts keep them.

    SIGHUP reads files again: in place where one process serves, by a rolling restart where several workers do.
    """
    from aggmw.server.run import run

    def read() -> Configuration:
        return _overridden(load(config) if config else Configuration(), host, port, workers)

    raise typer.Exit(reported(lambda: run(read(), directory, read=read)))


@app.command()
def demo(
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Everything the demo makes.")] = Path(".demo"),
    port: PortOption = None,
) -> None:
    """Serve a front proxy, with three identities to try and three services behind it.

    An API server (wardle.example.com/v1alpha1, flunders) and a web service (/billing/) are processes of their own; a
    FastAPI application (notes.example.com/v1) is in this process.
    """
    from aggmw.server.demo import run_demo

    raise typer.Exit(reported(lambda: run_demo(directory, port)))


@checks.command("config")
def check_config(config: ConfigOption = None, directory: DirectoryOption = Path(".aggmw")) -> None:
    """Read a configuration and every file that it names, and say what is wrong with them, or what would be served.

    Nothing listens, and no file is made. The status is 0 when everything is right, 2 when something is wrong.
    """
    from aggmw.server.run import check

    stack = reported(lambda: check(load(config) if config else Configuration(), directory))
    typer.echo(f"{config or 'the default configuration'}: no mistakes\n{stack}")


@checks.command("auth")
def check_auth(
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="A file that holds a bearer token.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--cert", metavar="FILE", help="A client certificate, PEM, leaf first.")
    ] = None,
    config: ConfigOption = None,
    directory: DirectoryOption = Path(".aggmw"),
) -> None:
    """Say which authenticator knows a credential, whom it is, by which rules, and why the others do not know it.

    The status is 0 when somebody knows it, 1 when nobody does. The credential itself is never printed.
    """
    from aggmw.server.check import check_auth

    if (token_file is None) == (certificate is None):
        raise typer.BadParameter("give one of --token-file and --cert")
    configuration = reported(lambda: load(config) if config else Configuration())
    lines, known = reported(
        lambda: check_auth(configuration, directory, token_file=token_file, certificate=certificate)
    )
    for line in lines:
        typer.echo(line)
    raise typer.Exit(0 if known else 1)


@app.command()
def token(
    account: Annotated[str, typer.Option("--account", metavar="NAMESPACE/NAME", help="Whose token it is.")],
    audience: Annotated[
        list[str] | None, typer.Option("--audience", metavar="AUDIENCE", help="For whom it is; may be repeated.")
    ] = None,
    seconds: Annotated[int, typer.Option("--seconds", metavar="SECONDS", help="How long it is good.")] = 3600,
    config: ConfigOption = None,
) -> None:
    """Print a new token of a service account.

    The configuration says which accounts there are, and with which key tokens are signed.
    """
    from aggmw.config.tokens import issued_token

    configuration = reported(lambda: load(config) if config else Configuration())
    typer.echo(reported(lambda: issued_token(configuration, account, audiences=audience or (), seconds=seconds)))


@app.command()
def version() -> None:
    """Print the version, and whether it is the compiled build."""
    _print_version(True)


@app.callback()
def _options(
    asked: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda asked: _print_version(asked), help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"aggmw {installed('aggmw')}{' (compiled)' if aggmw.__compiled__ else ''}")
        raise typer.Exit


def _overridden(configuration: Configuration, host: str | None, port: int | None, workers: int | None) -> Configuration:
    """The configuration with what the command line overrides."""
    return replace(
        configuration,
        host=configuration.host if host is None else host,
        port=configuration.port if port is None else port,
        workers=configuration.workers if workers is None else workers,
    )
