"""What the commands that answer questions share: their options, and answers as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from aggmw.cli.options import reported
from aggmw.errors import ConfigurationError, InvalidIdentity, Problem

__all__ = [
    "AllNamespacesOption",
    "ModelOption",
    "NamespaceOption",
    "Output",
    "OutputOption",
    "PolicyOption",
    "RbacOption",
    "VerbArgument",
    "WhatArgument",
    "answer",
    "quietly",
]

_T = TypeVar("_T")


class Output(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


VerbArgument = Annotated[str, typer.Argument(metavar="VERB", help="Such as get, list or create.")]
WhatArgument = Annotated[
    str, typer.Argument(metavar="WHAT", help="/path, or RESOURCE[.VERSION][.GROUP], with /NAME behind it.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", metavar="FORMAT", help="text or json.")]
PolicyOption = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A casbin policy, without a configuration.")
]
ModelOption = Annotated[
    Path | None, typer.Option("--model", metavar="FILE", help="The casbin model that the policy is written for.")
]
RbacOption = Annotated[
    list[Path] | None,
    typer.Option("--rbac", metavar="FILE", help="Manifests of roles and bindings, without a configuration."),
]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAME", help="The namespace; without it, all of them, or none.")
]
AllNamespacesOption = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="All namespaces at once, which is what no namespace means, too.")
]


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is logged: what there is to say is in the answer."""
    import structlog

    before = structlog.get_config()
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def _drop(*_: object) -> NoReturn:
    import structlog

    raise structlog.DropEvent


def quietly(action: Callable[[], _T]) -> _T:
    """Do it without a log; mistakes of the operator are printed, and the command ends with status 2."""

    def checked() -> _T:
        from aggmw.middleware.authorization.analysis.regions import TooMuch

        try:
            return action()
        except TooMuch as error:
            raise ConfigurationError([Problem("policy", str(error))]) from error
        except InvalidIdentity as error:
            raise ConfigurationError([Problem("caller", str(error))]) from error
        except ValueError as error:
            raise ConfigurationError([Problem("request", str(error))]) from error

    with _quiet():
        return reported(checked)


def answer(output: Output, lines: Iterable[str], value: object) -> None:
    """Print an answer: the lines, or the value as JSON."""
    if output is Output.JSON:
        typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))
    else:
        for line in lines:
            typer.echo(line)


def _plain(value: object) -> object:
    """A value of dataclasses and named tuples as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value) if field.repr}
    if isinstance(value, Enum):
        return value.name
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return [_plain(each) for each in value]
