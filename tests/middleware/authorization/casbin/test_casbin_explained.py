"""Why it was refused: what nearly allowed it, and what would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.authorization.casbin.policies import (
    GRANTS,
    MODEST,
    REQUESTS,
    RULES,
    Rule,
    authorizer,
    lines,
)

from aggmw.contracts.authorization import Attributes, Change, Explanation, Verdict
from aggmw.middleware.authorization import CasbinAuthorizer


def changed(text: list[str], change: Change) -> CasbinAuthorizer:
    """The policy with a change applied."""
    gone = {int(rule.partition(": ")[0].rpartition(":")[2]) for rule in change.remove}
    kept = [line for number, line in enumerate(text, 1) if number not in gone]
    return CasbinAuthorizer.from_text("\n".join([*kept, *change.add]))


def explained(policy: CasbinAuthorizer, asked: Attributes) -> Explanation:
    return asyncio.run(policy.explain(asked))


@MODEST
@given(st.lists(RULES, min_size=1, max_size=8, unique=True), GRANTS.map(dict.fromkeys), REQUESTS)
def test_every_change_allows(
    decide: Callable[..., Verdict], rules: list[Rule], grants: dict[tuple[str, str], None], asked: Attributes
) -> None:
    """Each change that is proposed, applied to the policy, does allow what was refused, and there always is one."""
    text = lines(rules, list(grants))
    explanation = explained(authorizer(rules, list(grants)), asked)
    assert explanation.verdict == decide(authorizer(rules, list(grants)), asked)
    if explanation.verdict.allowed:
        assert explanation.changes == explanation.misses == ()
        return
    assert explanation.changes
    for change in explanation.changes:
        identity = asked.identity.with_groups((*asked.identity.groups, *change.groups))
        assert decide(changed(text, change), asked._replace(identity=identity)).allowed, change
