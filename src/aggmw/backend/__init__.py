"""For servers behind the front proxy: believe its word on who is asking, be listed, answer errors as `Status`.

::

    app = Starlette(
        routes=[...],
        middleware=[
            Middleware(RequestHeaderAuthentication, ca=Path("front-proxy-ca.crt").read_bytes()),
            Middleware(StatusErrors),
            Middleware(ServeDiscovery, groups={"notes.example.com": {"v1": [resource("notes", "Note")]}}),
        ],
    )

Run it with `uvicorn --http aggmw.server.door:Door`, which tells the application whose certificate a connection has.

A WSGI application (Flask, Django, …) becomes one for all this with `WsgiApplication(app)`.
"""

from aggmw.backend.authentication import RequestHeaderAuthentication
from aggmw.backend.discovery import ServeDiscovery
from aggmw.backend.resources import resource
from aggmw.backend.status_errors import StatusErrors
from aggmw.backend.wsgi import WsgiApplication
from aggmw.contracts.catalog import APISubresource

__all__ = [
    "APISubresource",
    "RequestHeaderAuthentication",
    "ServeDiscovery",
    "StatusErrors",
    "WsgiApplication",
    "resource",
]
