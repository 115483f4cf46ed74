"""`aggmw policy …`: questions about whole policies."""

from __future__ import annotations

from itertools import chain
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
from aggmw.cli.options import ConfigOption
from aggmw.config import load

__all__ = ["policies"]

if TYPE_CHECKING:
    from aggmw.errors import Problem
    from aggmw.middleware.authorization.analysis.asking import Asked
    from aggmw.middleware.authorization.analysis.comparison import Difference
    from aggmw.middleware.authorization.analysis.search import WhoCan

policies = typer.Typer(no_args_is_help=True, help="Look policies through: for mistakes, for differences, for people.")


@policies.command()
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Casbin policies; manifests, and directories.")],
    model: ModelOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="The status is 1 when there is anything to say.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what in policies is probably meant otherwise, and which rules change nothing.

    The status is 0, or 1 with `--strict` when something is said; a policy with mistakes has status 2.
    """

    def ask() -> list[Problem]:
        from aggmw.config.questions import policy_warnings

        return [warning for file in files for warning in policy_warnings(file, model)]

    found = quietly(ask)
    answer(output, map(str, found), found)
    raise typer.Exit(1 if found and strict else 0)


@policies.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A casbin policy, manifests, or a directory of those.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Say who may do what under the policy B and not under A, and the other way round.

    What only reads differently is no difference. The status is 0 when there is none, 1 when there is one.
    """

    def ask() -> list[Difference]:
        from aggmw.config.questions import policy_diff

        return policy_diff(before, after)

    found = quietly(ask)
    from aggmw.middleware.authorization.analysis.words import diff_lines

    answer(output, diff_lines(found), found)
    raise typer.Exit(1 if found else 0)


@policies.command("who-can")
def who_can(
    verb: VerbArgument,
    what: WhatArgument,
    namespace: NamespaceOption = "",
    all_namespaces: AllNamespacesOption = False,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The object's name.")] = "",
    subresource: Annotated[str, typer.Option("--subresource", metavar="NAME", help="Such as status or log.")] = "",
    version: Annotated[
        str, typer.Option("--api-version", metavar="VERSION", help="v1 by default; for models that look at it.")
    ] = "",
    config: ConfigOption = None,
    policy: PolicyOption = None,
    model: ModelOption = None,
    rbac: RbacOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say which users, groups and roles may do something, by which rules.

    The status is 0 when anybody may, 1 when nobody may.
    """

    def ask() -> tuple[Asked, WhoCan]:
        from aggmw.config.questions import authorizer, who_may
        from aggmw.middleware.authorization.analysis.asking import request

        asked = request(
            verb,
            what,
            namespace=namespace,
            everywhere=all_namespaces,
            name=name,
            subresource=subresource,
            version=version,
        )
        decides = authorizer(load(config) if config else None, policy=policy, model=model, rbac=rbac or ())
        return asked, who_may(decides, asked.attributes)

    asked, found = quietly(ask)
    from aggmw.middleware.authorization.analysis.words import note_lines, who_can_lines

    answer(output, chain(who_can_lines(asked.attributes, found), note_lines(asked.note)), found)
    raise typer.Exit(0 if found.allowed else 1)
