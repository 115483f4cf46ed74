"""Django (ASGI): a view that knows the caller, and a front proxy beside it.

    WARDLE_URL=https://127.0.0.1:… uvicorn examples.frameworks.django_app:app --http aggmw.server.door:Door

Django knows neither mounts nor lifespans, so Starlette's routing stands in front of the two. The caller is in
`request.scope["user"]`; Django's own `request.user` stays Django's.
"""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.http import JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount

from aggmw.middleware.authentication import AuthenticationMiddleware

from .front import make_front_proxy, tokens

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="an example")


async def me(request: ASGIRequest) -> JsonResponse:
    user = request.scope["user"]
    return JsonResponse({"user": user.display_name, "groups": user.groups})


urlpatterns = [path("me", me)]

front_proxy = make_front_proxy()
django = AuthenticationMiddleware(get_asgi_application(), authenticators=[tokens])
app = Starlette(
    routes=[Mount("/k8s", app=front_proxy), Mount("/", app=django)],
    lifespan=front_proxy.lifespan(),
)
