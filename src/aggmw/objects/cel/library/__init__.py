"""The functions of CEL and of Kubernetes' environment, a module a library."""

from aggmw.objects.cel.library import (
    addresses,
    containers,
    conversions,
    operators,
    optionals,
    quantities,
    strings,
    times,
    urls,
)

__all__ = ["LIBRARIES"]

LIBRARIES = (
    operators.library,
    conversions.library,
    strings.library,
    containers.library,
    optionals.library,
    times.library,
    urls.library,
    addresses.library,
    quantities.library,
)
