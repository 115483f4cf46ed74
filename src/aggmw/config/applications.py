"""Applications by name, "module:attribute", as servers take them: imported where a configuration names them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from aggmw.asgi.types import ASGIApp
from aggmw.backend import WsgiApplication
from aggmw.contracts.options import check_application, check_wsgi_application
from aggmw.errors import ConfigurationError, Problem

__all__ = ["import_application", "import_wsgi"]


def import_application(name: str, *, where: str, directory: Path | None) -> ASGIApp:
    """The ASGI application that `name` stands for.

    Args:
        name: "package.module:attribute.attribute".
        where: who names it, for error messages.
        directory: where modules are looked for first, now and by what they import later; None for nowhere.

    Raises:
        ConfigurationError: no such name, a module that fails, or what is no such application.
    """
    return cast(ASGIApp, _import(name, check_application, where=where, directory=directory))


def import_wsgi(name: str, *, where: str, directory: Path | None) -> ASGIApp:
    """The WSGI application that `name` stands for, as an ASGI application. Args and raises as `import_application`."""
    return WsgiApplication(cast(Any, _import(name, check_wsgi_application, where=where, directory=directory)))


def _import(name: str, check: Callable[[str, object], None], *, where: str, directory: Path | None) -> object:
    module, colon, attributes = name.partition(":")
    if not (module and colon and attributes):
        raise _problem(where, f'must be "module:attribute", not {name!r}')
    if directory is not None and (path := str(directory.resolve())) not in sys.path:
        sys.path.insert(0, path)
    try:
        found: object = import_module(module)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise _problem(where, f"cannot import {module}: {type(error).__name__}: {_line(error)}") from error
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise _problem(where, f"{module} has no {attributes}") from None
    try:
        check(name, found)
    except TypeError as error:
        raise _problem(where, str(error)) from None
    return found


def _problem(where: str, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(where, message)])


def _line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else "no message"
