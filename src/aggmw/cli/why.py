"""`aggmw why`: the verdict on a request, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aggmw.cli.answers import (
    AllNamespacesOption,
    ModelOption,
    NamespaceOption,
    Output,
    OutputOption,
    PolicyOption,
    RbacOption,
    VerbArgument,
    WhatArgument,
    answer,
    quietly,
)
from aggmw.cli.options import ConfigOption, DirectoryOption
from aggmw.config import Configuration, load

__all__ = ["why"]

if TYPE_CHECKING:
    from aggmw.config.questions import Why


def why(
    verb: VerbArgument,
    what: WhatArgument,
    user: Annotated[str | None, typer.Option("--as", metavar="USER", help="Who asks.")] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--group", metavar="GROUP", help="A group of theirs; may be repeated.")
    ] = None,
    uid: Annotated[str, typer.Option("--uid", metavar="UID", help="Their uid.")] = "",
    extra: Annotated[
        list[str] | None, typer.Option("--extra", metavar="KEY=VALUE", help="An extra value; may be repeated.")
    ] = None,
    namespace: NamespaceOption = "",
    all_namespaces: AllNamespacesOption = False,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The object's name.")] = "",
    subresource: Annotated[str, typer.Option("--subresource", metavar="NAME", help="Such as status or log.")] = "",
    version: Annotated[
        str, typer.Option("--api-version", metavar="VERSION", help="v1 by default; for models that look at it.")
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Who asks: whose bearer token this file holds."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--cert", metavar="FILE", help="Who asks: whose client certificate this is, PEM.")
    ] = None,
    config: ConfigOption = None,
    policy: PolicyOption = None,
    model: ModelOption = None,
    rbac: RbacOption = None,
    directory: DirectoryOption = Path(".aggmw"),
    output: OutputOption = Output.TEXT,
) -> None:
    """Say whether somebody may do something, by which rule, and, if not, what would allow it.

    The status is 0 when it is allowed, 1 when it is denied.
    """
    if sum(each is not None for each in (user, token_file, certificate)) != 1:
        raise typer.BadParameter("say who asks by one of --as, --token-file and --cert")
    if user is None and (groups or uid or extra):
        raise typer.BadParameter("--group, --uid and --extra go with --as")

    def ask() -> Why:
        from aggmw.config.questions import authorizer, why
        from aggmw.middleware.authorization.analysis.asking import caller, extra_values, request

        asked = request(
            verb,
            what,
            namespace=namespace,
            everywhere=all_namespaces,
            name=name,
            subresource=subresource,
            version=version,
        )
        configuration = load(config) if config else None
        if user is not None:
            who = caller(user, groups or (), uid, extra_values(extra or ()))
        else:
            from aggmw.server.check import identified

            configuration = configuration or Configuration()
            who = identified(configuration, directory, token_file=token_file, certificate=certificate), ()
        decides = authorizer(configuration, policy=policy, model=model, rbac=rbac or ())
        return why(decides, asked, *who)

    found = quietly(ask)
    from aggmw.config.questions import why_report

    answer(output, why_report(found), found)
    raise typer.Exit(0 if found.explanation.verdict.allowed else 1)
