"""Kinds that the front proxy serves itself. At present those that store nothing: the review APIs."""

from aggmw.middleware.resources.middleware import ResourcesMiddleware
from aggmw.middleware.resources.virtual import VirtualKinds

__all__ = ["ResourcesMiddleware", "VirtualKinds"]
