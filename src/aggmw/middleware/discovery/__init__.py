"""Discovery: which APIs exist, in which form clients understand it; OpenAPI, version and health. All from memory."""

from aggmw.middleware.discovery.controller import Timing
from aggmw.middleware.discovery.middleware import Discovery, DiscoveryMiddleware
from aggmw.middleware.discovery.version import VersionInfo

__all__ = ["Discovery", "DiscoveryMiddleware", "Timing", "VersionInfo"]
