"""The Kubernetes aggregation layer as ASGI middleware.

Put `FrontProxy` around any ASGI application, and it becomes a front proxy. A request goes through, from the outside in:
`recovery` (request id, errors as `Status`), `request_info` (what is asked for), `authentication` (who asks),
`audit` (a record of it) and `impersonation` (acting as somebody else), if they are wanted, `authorization` (may they),
`metrics` (how much of it, if it is wanted), `discovery` (which APIs exist, from memory),
`registry` (where a group is served), `proxy` (forwarding, with the caller's identity) and `resources` (kinds that it
serves itself, if there are any). What no stage takes reaches the application.

Each stage is a package of `aggmw.middleware` and works alone; what they tell each other is in `aggmw.contracts`;
test tools are in `aggmw.testing`; `aggmw serve` runs it all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aggmw.contracts.backends import APIService, Backend, BalancedBackend, LocalBackend, PathService
    from aggmw.contracts.balancing import Balancing
    from aggmw.contracts.drain import Drain
    from aggmw.contracts.identity import Identity
    from aggmw.front_proxy import FrontProxy

    __compiled__: bool
    """Whether this is the compiled build: modules that every request goes through are C extensions."""

__all__ = [
    "APIService",
    "Backend",
    "BalancedBackend",
    "Balancing",
    "Drain",
    "FrontProxy",
    "Identity",
    "LocalBackend",
    "PathService",
]

_HOMES = {
    "APIService": "aggmw.contracts.backends",
    "Backend": "aggmw.contracts.backends",
    "BalancedBackend": "aggmw.contracts.backends",
    "Balancing": "aggmw.contracts.balancing",
    "Drain": "aggmw.contracts.drain",
    "FrontProxy": "aggmw.front_proxy",
    "Identity": "aggmw.contracts.identity",
    "LocalBackend": "aggmw.contracts.backends",
    "PathService": "aggmw.contracts.backends",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: `import aggmw` alone costs nothing."""
    if name == "__compiled__":
        return not str(import_module("aggmw.asgi.headers").__file__).endswith(".py")
    if name not in _HOMES:
        raise AttributeError(f"module 'aggmw' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
