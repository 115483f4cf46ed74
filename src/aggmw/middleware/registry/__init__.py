"""Registry: what is served where, by group version or path, from `APIService` files or Python; leaves the `Backend`."""

from aggmw.middleware.registry.api_services import load_api_services
from aggmw.middleware.registry.middleware import Registry, RegistryMiddleware
from aggmw.middleware.registry.resolvers import DnsResolver, StaticResolver
from aggmw.middleware.registry.routes import StaticRoutes, make_routes

__all__ = [
    "DnsResolver",
    "Registry",
    "RegistryMiddleware",
    "StaticResolver",
    "StaticRoutes",
    "load_api_services",
    "make_routes",
]
