"""What the casbin tests share: asking in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import CasbinAuthorizer


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged."""
    with capture_logs() as entries:
        yield entries


def _attributes(
    user: str,
    verb: str,
    what: str,
    *,
    groups: tuple[str, ...] = (),
    group: str = "wardle.example.com",
    namespace: str = "",
    name: str = "",
) -> Attributes:
    identity = Identity(user, groups=groups)
    if what.startswith("/"):
        return Attributes(identity, verb, False, path=what)
    resource, _, subresource = what.partition("/")
    return Attributes(identity, verb, True, group, "v1alpha1", resource, subresource, namespace, name)


@pytest.fixture
def attributes() -> Callable[..., Attributes]:
    """`attributes("alice", "get", "flunders/status", namespace="dev")`, or with a path that begins with a slash."""
    return _attributes


@pytest.fixture
def decide() -> Callable[..., Verdict]:
    """The verdict of an authorizer, without a loop: it waits for nothing."""

    def decide(authorizer: CasbinAuthorizer, one: Attributes) -> Verdict:
        work = authorizer.authorize(one)
        try:
            work.send(None)  # type: ignore[attr-defined]  # a coroutine, as every async def is
        except StopIteration as done:
            verdict: Verdict = done.value
            return verdict
        raise AssertionError("the authorizer waited")

    return decide


@pytest.fixture
def outcome(decide: Callable[..., Verdict]) -> Callable[..., Outcome]:
    """The outcome of asking for something: `outcome(authorizer, "alice", "get", "flunders")`."""

    def outcome(authorizer: CasbinAuthorizer, *words: str, **fields: object) -> Outcome:
        return decide(authorizer, _attributes(*words, **fields)).outcome  # type: ignore[arg-type]

    return outcome
