"""4. Audit: who did what and what became of it, by Kubernetes' policy file; also what authentication refused.

The outermost stage tells of the latter, because audit stands behind authentication.

    uvicorn --app-dir examples 04_audit:app

    $ python examples/04_audit.py
    alice   get    /apis/example.com/v1/dogs/rex               200 None
    nobody  get    /apis/example.com/v1/dogs/rex               401 None
    alice   create /apis/example.com/v1/dogs?token=REDACTED    200 {'name': 'rex'}
"""

import asyncio
import json
import sys
from pathlib import Path
from tempfile import mkdtemp

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aggmw import Identity
from aggmw.middleware.audit import Audit, AuditLog, AuditMiddleware, AuditPolicy
from aggmw.middleware.authentication import AuthenticationMiddleware, StaticTokens
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client

rules = [{"level": "Request", "verbs": ["create"]}, {"level": "Metadata"}]
policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
audit = Audit(AuditPolicy(policy), [AuditLog(log := Path(mkdtemp()) / "audit.log")])


async def dogs(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())} bytes")


app = Starlette(routes=[Route("/{path:path}", dogs, methods=["GET", "POST"])])
tokens = StaticTokens({"t": Identity("alice")})
app = AuthenticationMiddleware(AuditMiddleware(app, audit=audit), authenticators=[tokens])
app = RecoveryMiddleware(RequestInfoMiddleware(app), observers=[audit])


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    client, token = Client(app), {"Authorization": "Bearer t"}
    async with audit.running():
        await client.request("GET", "/apis/example.com/v1/dogs/rex", token)
        await client.request("GET", "/apis/example.com/v1/dogs/rex")
        await client.request("POST", "/apis/example.com/v1/dogs?token=x", token, body=b'{"name":"rex"}')
    for event in map(json.loads, log.read_text().splitlines()):
        user, code = event["user"].get("username", "nobody"), event["responseStatus"]["code"]
        print(f"{user:<7} {event['verb']:<6} {event['requestURI']:<43} {code} {event.get('requestObject')}")


if __name__ == "__main__":
    asyncio.run(main())
