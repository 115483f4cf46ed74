"""Request info: the one parser of method, path and query; what is ambiguous is refused."""

from aggmw.middleware.request_info.middleware import RequestInfoMiddleware, RequestInfoResolver
from aggmw.middleware.request_info.parse import parse

__all__ = ["RequestInfoMiddleware", "RequestInfoResolver", "parse"]
