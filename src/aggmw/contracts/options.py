"""What embedders hand in, checked when a stage is made: a mistake must not wait for the first request.

Every check raises TypeError with the option's name, what is wrong and what to write. Values are named by their type,
never shown: they may hold secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import iscoroutinefunction, signature, unwrap
from types import FunctionType, MethodType
from typing import Any, TypeVar

__all__ = [
    "check_application",
    "check_lookup",
    "check_routes",
    "check_seam",
    "check_type",
    "check_wsgi_application",
    "checked_seams",
]

T = TypeVar("T")


def check_application(option: str, app: object) -> None:
    """What can be called as an ASGI application is called; whether it is one, only a request shows."""
    awaited = hasattr(app, "__await__")  # a class of Starlette's endpoints is an application, too
    if (isinstance(app, type) and not awaited) or not callable(app):
        raise TypeError(f"{option} must be an ASGI application, not {_named(app)}")
    if _takes(app, 3):
        return
    made = ": aggmw.backend.WsgiApplication(…) makes one of a WSGI application" if _takes(app, 2) else ""
    raise TypeError(f"{option} must be an ASGI application, and {_named(app)} takes no scope, receive and send{made}")


def check_wsgi_application(option: str, app: object) -> None:
    """The same of what WSGI calls."""
    iterated = hasattr(app, "__iter__")  # a class whose instances are the answers is an application, too (PEP 3333)
    if (isinstance(app, type) and not iterated) or not callable(app):
        raise TypeError(f"{option} must be a WSGI application, not {_named(app)}")
    if _takes(app, 2):
        return
    already = ": it looks like an ASGI application, which needs none of this" if _takes(app, 3) else ""
    raise TypeError(
        f"{option} must be a WSGI application, and {_named(app)} takes no environ and start_response{already}"
    )


def check_seam(option: str, value: object, method: str) -> None:
    """`value` must be an instance with the coroutine method that its Protocol asks for."""
    if isinstance(value, type):
        raise TypeError(f"{option}: {value.__name__} is a class; make an instance of it: {value.__name__}(…)")
    function = getattr(value, method, None)
    if not callable(function):
        raise TypeError(f"{option}: {_named(value)} has no method {method}()")
    if isinstance(function, FunctionType | MethodType) and not _awaitable(unwrap(function)):
        raise TypeError(f"{option}: {_named(value)}.{method} must be a coroutine function: async def {method}(…)")


def checked_seams(option: str, values: Iterable[T], method: str) -> tuple[T, ...]:
    """Several of them, in a list or the like."""
    if isinstance(values, str | bytes | Mapping | type) or not isinstance(values, Iterable):
        raise TypeError(f"{option} takes a list, not {_named(values)}")
    checked = tuple(values)
    for number, value in enumerate(checked):
        check_seam(f"{option}[{number}]", value, method)
    return checked


def check_lookup(option: str, function: object) -> None:
    """A plain function of the exchange, or None."""
    if function is None:
        return
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"{option} takes a function of the exchange, not {_named(function)}")
    if iscoroutinefunction(function):
        raise TypeError(f"{option} takes a plain function: it is not awaited")


def check_routes(option: str, source: object) -> None:
    """A `RouteSource`, not the services themselves."""
    if isinstance(source, type) or not hasattr(source, "routes"):
        raise TypeError(f"{option} takes a RouteSource, not {_named(source)}: StaticRoutes(make_routes([…]))")


def check_type(option: str, value: object, *kinds: type) -> None:
    """An instance of one of these types."""
    if not isinstance(value, kinds):
        raise TypeError(f"{option} takes {' or '.join(kind.__name__ for kind in kinds)}, not {_named(value)}")


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments; also when that cannot be found out."""
    try:
        called = signature(function, follow_wrapped=False)
    except Exception:  # noqa: BLE001  it may have to evaluate annotations, of names that only a type checker imports
        return True
    try:
        called.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _awaitable(function: object) -> bool:
    """Whether what it returns can be awaited: it is `async def`, or says that it hands on somebody else's coroutine."""
    returns = str((getattr(function, "__annotations__", None) or {}).get("return", ""))
    return iscoroutinefunction(function) or "Awaitable" in returns or "Coroutine" in returns


def _named(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return type(value).__name__
