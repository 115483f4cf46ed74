"""Several authorizers as one (`k8s.io/apiserver/pkg/authorization/union`)."""

from __future__ import annotations

from collections.abc import Iterable

from aggmw.contracts.authorization import Attributes, Authorizer, Outcome, Verdict
from aggmw.contracts.options import checked_seams

__all__ = ["Union"]


class Union:
    """Asks authorizers in order; the first that allows or denies decides.

    An authorizer that fails ends the search: those after it could allow what it would have denied. One that should be
    passed over when it is broken answers `NO_OPINION` itself.

    Args:
        authorizers: in the order to ask; none of them denies everything.
    """

    def __init__(self, authorizers: Iterable[Authorizer]) -> None:
        self._authorizers = checked_seams("authorizers", authorizers, "authorize")

    def __repr__(self) -> str:
        return f"Union({list(self._authorizers)!r})"

    async def authorize(self, attributes: Attributes) -> Verdict:
        """The first decisive verdict; else `NO_OPINION` with all the reasons that were given."""
        reasons: list[str] = []
        for authorizer in self._authorizers:
            verdict = await authorizer.authorize(attributes)
            if verdict.outcome is not Outcome.NO_OPINION:
                return verdict
            if verdict.reason:
                reasons.append(verdict.reason)
        return Verdict(Outcome.NO_OPINION, "; ".join(reasons))
