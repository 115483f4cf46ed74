"""Stages around stages: what stands wrongly fails when the stack is made, not with the first request."""

from __future__ import annotations

from collections.abc import Sequence

from aggmw.asgi.types import ASGIApp
from aggmw.contracts.options import check_application
from aggmw.errors import MisplacedStage

__all__ = ["shown", "stand"]


def stand(stage: str, app: ASGIApp, needs: Sequence[str] = ()) -> tuple[str, ...]:
    """The stages from this one inwards, which a middleware of ours carries as `aggmw_stages`.

    Only neighbours are seen: what stands behind a foreign middleware is found out by the first request.

    Args:
        stage: the name of the one that is being put around `app`.
        app: what is inside.
        needs: the stages whose findings it reads.

    Raises:
        TypeError: `app` is no application.
        MisplacedStage: `app` has this stage already, or one that this stage needs outside of itself.
    """
    check_application(f"{stage}: app", app)
    inside: tuple[str, ...] = getattr(app, "aggmw_stages", ())
    if stage in inside:
        raise MisplacedStage(f"{stage} stands twice: take one of the two away")
    for needed in needs:
        if needed in inside:
            raise MisplacedStage(
                f"{stage} stands around {needed}, whose findings it needs: put {needed} in front of {stage}"
                " (with Starlette's add_middleware, what is added last stands in front)"
            )
    return (stage, *inside)


def shown(app: object) -> str:
    """An application in a `repr`: its own where it has one, else its name; never an address."""
    if type(app).__repr__ is not object.__repr__ and not hasattr(app, "__qualname__"):
        return repr(app)
    return str(getattr(app, "__qualname__", type(app).__name__))
