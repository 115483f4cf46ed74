"""The review APIs of `authorization.k8s.io/v1`: may they, may I, and what may I (wire contract §7.5).

`specs` reads what is asked, `kinds` answers it.
"""

from __future__ import annotations

from aggmw.contracts.authorization import Authorizer
from aggmw.contracts.kinds import VirtualKind
from aggmw.middleware.authorization.reviews.kinds import (
    LocalSubjectAccessReviews,
    SelfSubjectAccessReviews,
    SelfSubjectRulesReviews,
    SubjectAccessReviews,
)

__all__ = [
    "LocalSubjectAccessReviews",
    "SelfSubjectAccessReviews",
    "SelfSubjectRulesReviews",
    "SubjectAccessReviews",
    "access_reviews",
]


def access_reviews(authorizer: Authorizer) -> tuple[VirtualKind, ...]:
    """All four, for `FrontProxy(kinds=[*access_reviews(authorizer)])`.

    Args:
        authorizer: the one that decides on requests, so that reviews and requests have the same answers.
    """
    return (
        SubjectAccessReviews(authorizer),
        LocalSubjectAccessReviews(authorizer),
        SelfSubjectAccessReviews(authorizer),
        SelfSubjectRulesReviews(authorizer),
    )
