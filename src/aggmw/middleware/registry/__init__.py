"""Registry: which group version is served where, from `APIService` files or Python; leaves the request's `Backend`."""

from aggmw.middleware.registry.api_services import load_api_services
from aggmw.middleware.registry.middleware import Registry, RegistryMiddleware
from aggmw.middleware.registry.resolvers import DnsResolver, StaticResolver
from aggmw.middleware.registry.routes import StaticRoutes, make_routes, remote_service

__all__ = [
    "DnsResolver",
    "Registry",
    "RegistryMiddleware",
    "StaticResolver",
    "StaticRoutes",
    "load_api_services",
    "make_routes",
    "remote_service",
]
