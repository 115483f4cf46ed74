"""5. Impersonation: acting as somebody else, as far as the authorizer lets one; what `kubectl --as` asks for.

Each name and each group is a right of its own.

    uvicorn --app-dir examples 05_impersonation:app

    $ python examples/05_impersonation.py
    nobody else         200 alice
    bob                 200 bob, really alice
    carol               403 users "carol" is forbidden: User "alice" cannot impersonate resource "users" …
    bob in system:masters 403 groups "system:masters" is forbidden: User "alice" cannot impersonate resource "groups" …
"""

import asyncio
import sys

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aggmw import Identity
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.middleware.authentication import AuthenticationMiddleware, StaticTokens
from aggmw.middleware.impersonation import ImpersonationMiddleware
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client


class AliceActsAsBob:
    """An authorizer for one right."""

    async def authorize(self, attributes: Attributes) -> Verdict:
        asked = attributes.identity.user, attributes.verb, attributes.resource, attributes.name
        return Verdict(Outcome.ALLOW if asked == ("alice", "impersonate", "users", "bob") else Outcome.NO_OPINION)


async def me(request: Request) -> PlainTextResponse:
    really = request.scope["aggmw.exchange"].impersonator
    return PlainTextResponse(request.user.display_name + (f", really {really.user}" if really else ""))


app = ImpersonationMiddleware(Starlette(routes=[Route("/me", me)]), authorizer=AliceActsAsBob(), constrained=False)
tokens = StaticTokens({"t": Identity("alice")})
app = RequestInfoMiddleware(AuthenticationMiddleware(app, authenticators=[tokens], impersonation=True))


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for wanted in ["", "bob", "carol", "bob in system:masters"]:
        user, _, group = wanted.partition(" in ")
        asked = [("Impersonate-User", user), ("Impersonate-Group", group), ("Authorization", "Bearer t")]
        response = await Client(app).request("GET", "/me", [field for field in asked if field[1]])
        words = response.text if response.status == 200 else response.json()["message"].partition(" in API")[0] + " …"
        print(f"{wanted or 'nobody else':<19} {response.status}", words)


if __name__ == "__main__":
    asyncio.run(main())
