"""Policies for questions about them: those of a configuration, or files by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os.path import isdir  # unlike Path.is_dir, it is false of whatever cannot be looked at
from pathlib import Path
from typing import NamedTuple

from aggmw.config.authorizers import authorized
from aggmw.config.configuration import Configuration
from aggmw.contracts.authorization import Attributes, Authorizer, Explainer, Explanation
from aggmw.contracts.grants import Granted, GrantLister
from aggmw.contracts.identity import SYSTEM_MASTERS, Identity
from aggmw.errors import AggmwError, ConfigurationError, Problem
from aggmw.middleware.authorization import AlwaysAllowPaths, CasbinAuthorizer, PrivilegedGroups, RbacAuthorizer, Union
from aggmw.middleware.authorization.analysis.asking import Asked
from aggmw.middleware.authorization.analysis.comparison import Difference, diff
from aggmw.middleware.authorization.analysis.regions import TooMuch
from aggmw.middleware.authorization.analysis.search import WhoCan, who_can
from aggmw.middleware.authorization.analysis.words import caller_lines, note_lines, why_lines
from aggmw.objects.attributes import handshake_attributes

__all__ = [
    "Why",
    "authorizer",
    "grants_of",
    "policy_diff",
    "policy_of",
    "policy_warnings",
    "who_may",
    "why",
    "why_report",
]

_LONGEST_REASON = 200
_MANIFESTS = (".yaml", ".yml", ".json")
_WITHOUT_POLICY = (PrivilegedGroups, AlwaysAllowPaths)
_NO_POLICY = (
    f"the configuration names no policy, so nobody but {SYSTEM_MASTERS} may do anything: give authorization.policy,"
    " authorization.rbac or authorization.configurationFile"
)


class Why(NamedTuple):
    """Why something is decided as it is.

    Attributes:
        request: what was asked, and by whom.
        explanation: the answer.
        added: groups that the caller is in besides those that were named.
        note: how the request was read, where it could be meant otherwise.
        besides: what a WebSocket needs, too, for this, and the answer to that.
    """

    request: Attributes
    explanation: Explanation
    added: tuple[str, ...] = ()
    note: str = ""
    besides: tuple[Attributes, Explanation] | None = None


def why(decides: Authorizer, asked: Asked, identity: Identity, added: tuple[str, ...]) -> Why:
    """Ask why a request of somebody is decided as it is.

    Raises:
        ConfigurationError: it cannot be decided.
    """
    attributes = asked.attributes._replace(identity=identity)
    handshake = handshake_attributes(attributes)

    async def ask() -> Why:
        explanation = await _explained(decides, attributes)
        besides = None
        if handshake is not None and explanation.verdict.allowed and attributes.verb == "get":
            besides = (handshake, await _explained(decides, handshake))
        return Why(attributes, explanation, added, asked.note, besides)

    with _deciding():
        return asyncio.run(ask())


def who_may(decides: Authorizer, attributes: Attributes) -> WhoCan:
    """Ask who may do something.

    Raises:
        ConfigurationError: that cannot be decided.
    """
    with _deciding():
        return asyncio.run(who_can(decides, attributes))


@contextmanager
def _deciding() -> Iterator[None]:
    """What an authorizer raises is for whoever wrote its policy."""
    try:
        yield
    except (AggmwError, TooMuch):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:_LONGEST_REASON]
        words = f"cannot be decided ({type(error).__name__}: {reason}): the server would answer 500"
        raise ConfigurationError([Problem("policy", words)]) from error


async def _explained(decides: Authorizer, attributes: Attributes) -> Explanation:
    if isinstance(decides, Union) and all(isinstance(each, _WITHOUT_POLICY) for each in decides.members):
        explanation = await decides.explain(attributes)
        return explanation if explanation.verdict.allowed else replace(explanation, note=_NO_POLICY)
    if isinstance(decides, Explainer):
        return await decides.explain(attributes)
    return Explanation(await decides.authorize(attributes))


def authorizer(
    configuration: Configuration | None,
    *,
    policy: Path | None = None,
    model: Path | None = None,
    rbac: Sequence[Path] = (),
) -> Authorizer:
    """What decides: of a configuration, or of files, in the order in which they are asked without a configuration.

    Raises:
        ConfigurationError: all the mistakes in them; or nothing was given, or both.
    """
    files = policy is not None or bool(rbac)
    if model is not None and policy is None:
        raise ConfigurationError([Problem("--model", "needs the policy that is written for it: --policy FILE")])
    if files and configuration is not None:
        raise ConfigurationError([Problem("--config", "names the policies itself: give it, or --policy and --rbac")])
    if configuration is not None:
        return authorized(configuration).authorizer
    if not files:
        raise ConfigurationError([Problem("policy", "give --config FILE, --policy FILE or --rbac FILE")])
    found: list[Authorizer] = [PrivilegedGroups()]
    names = ["privileged groups"]
    if policy is not None:
        found.append(CasbinAuthorizer.from_files(policy, model=model))
        names.append("policy")
    if rbac:
        found.append(RbacAuthorizer.from_files(*rbac))
        names.append("rbac")
    return Union(found, names=names)


def policy_of(path: Path, model: Path | None = None) -> CasbinAuthorizer | RbacAuthorizer:
    """The policy of one file, or directory: manifests by what they end in, or a casbin policy.

    Raises:
        ConfigurationError: all the mistakes in it.
    """
    if isdir(path) or path.suffix in _MANIFESTS:
        if model is not None:
            raise ConfigurationError([Problem("--model", f"is for casbin policies, and {path} holds manifests")])
        return RbacAuthorizer.from_files(path)
    return CasbinAuthorizer.from_files(path, model=model)


def grants_of(path: Path, one: GrantLister) -> Granted:
    """What the policy of a file grants.

    Raises:
        ConfigurationError: its rules are of a kind that cannot be compared.
    """
    granted = one.granted()
    if granted is None:
        raise ConfigurationError(
            [
                Problem(
                    str(path),
                    "is written for a model of its own, whose rules may mean anything: only policies for the model"
                    " that ships, and manifests, can be compared rule by rule",
                )
            ]
        )
    return granted._replace(privileged=frozenset((SYSTEM_MASTERS,)))


def policy_warnings(path: Path, model: Path | None = None) -> list[Problem]:
    """What in a policy is probably meant otherwise, and which of its rules change nothing.

    Raises:
        ConfigurationError: mistakes in it.
    """
    found = policy_of(path, model)
    return sorted({*found.warnings, *found.second_look()}, key=_place)


def _place(problem: Problem) -> tuple[str, int, str]:
    source, _, line = problem.path.rpartition(":")
    return (source, int(line), problem.message) if line.isdigit() else (problem.path, 0, problem.message)


def policy_diff(before: Path, after: Path) -> list[Difference]:
    """Who gains and who loses what.

    Raises:
        ConfigurationError: mistakes in a policy, or it cannot be compared.
    """
    granted = [grants_of(path, policy_of(path)) for path in (before, after)]
    try:
        return diff(*granted)
    except TooMuch as error:
        raise ConfigurationError([Problem(f"{before}, {after}", str(error))]) from error


def why_report(found: Why) -> Iterator[str]:
    """An answer as lines."""
    yield from why_lines(found.request, found.explanation)
    if found.besides is not None:
        asked, explanation = found.besides
        yield ""
        yield f"A WebSocket needs the verb {asked.verb}, too:"
        yield from (f"  {line}" if line else "" for line in why_lines(asked, explanation))
    yield ""
    yield from caller_lines(found.request.identity, found.added)
    yield from note_lines(found.note)
