"""What is public: the classes that embedders make."""

from __future__ import annotations

import enum
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import aggmw.contracts
import aggmw.middleware

__all__ = ["public_classes"]


def public_modules() -> Iterator[str]:
    """Where embedders import from."""
    yield from (
        "aggmw",
        "aggmw.asgi.exchanges",
        "aggmw.asgi.mounts",
        "aggmw.backend",
        "aggmw.net.tls",
        "aggmw.pki.make",
    )
    for package in (aggmw.middleware, aggmw.contracts):
        yield from (f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__))


def public_classes() -> set[type]:
    """Every class there that is made by embedders: no Protocol, exception or enumeration."""
    found = {getattr(module, name) for module in map(import_module, public_modules()) for name in module.__all__}
    return {
        each
        for each in found
        if inspect.isclass(each)
        and not getattr(each, "_is_protocol", False)
        and not issubclass(each, (Exception, enum.Enum))
    }
