"""Forward auth: other proxies ask whether they may forward a request; the same stages decide as for our own.

It stands outside the order of the stages: a question is turned into the request that it is about, and that request goes
the way of any other, from request_info to authorization, where `allowed` stands instead of what would serve it.
"""

from aggmw.middleware.forward_auth.forward_auth import ForwardAuth, check_host, check_path
from aggmw.middleware.forward_auth.middleware import AskedAt, ForwardAuthMiddleware, allowed
from aggmw.middleware.forward_auth.questions import PROXIES, Proxy

__all__ = ["PROXIES", "AskedAt", "ForwardAuth", "ForwardAuthMiddleware", "Proxy", "allowed", "check_host", "check_path"]
