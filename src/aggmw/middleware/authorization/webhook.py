"""Webhook SubjectAccessReview: authorizers of the type Webhook in Kubernetes' `AuthorizationConfiguration`.

Follows `k8s.io/apiserver/plugin/pkg/authorizer/webhook` (wire contract §7.6).
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog

from aggmw.contracts.authorization import Attributes, Explanation, Miss, Outcome, Rules, Verdict
from aggmw.contracts.identity import Identity
from aggmw.contracts.metrics import Sample
from aggmw.errors import ConfigurationError, Problem, UpstreamBroken, UpstreamError, UpstreamTimeout
from aggmw.middleware.authorization.conditions import MatchConditions
from aggmw.middleware.authorization.flights import Flights
from aggmw.middleware.authorization.remembered import Remembered, key_of, size_of
from aggmw.middleware.authorization.review_spec import review_spec, wire_spec
from aggmw.net.kubeconfig import read_kubeconfig
from aggmw.net.webhooks import Webhook

__all__ = ["FailurePolicy", "SubjectAccessReviewWebhook"]

FailurePolicy = Literal["Deny", "NoOpinion"]
"""What is decided where the server cannot be asked."""

_GROUP = "authorization.k8s.io"
_VERSIONS = ("v1", "v1beta1")
_NO_OPINION = Verdict(Outcome.NO_OPINION)
_CACHEABLE = 10_000  # characters of a question, as in Kubernetes
_LONGEST = 60.0  # seconds for all attempts together: then the request has no time left
_LONGEST_REASON = 1024
_HALF = re.compile("[\ud800-\udfff]")
_log = structlog.get_logger("aggmw.authorization")


class SubjectAccessReviewWebhook:
    """Asks another server, with a `SubjectAccessReview` for each question.

    It allows, denies, or has no opinion. What it says is remembered; who asks the same at the same time waits for one
    answer. While it cannot be asked, or answers nonsense, that is an error and never an allow.

    Args:
        webhook: the server.
        name: for explanations, the log and metrics.
        version: of the review that it takes: "v1" or "v1beta1".
        authorized_seconds: for how long an allow is remembered; 0: not at all.
        unauthorized_seconds: the same for everything else that it says.
        on_failure: while it cannot be asked: "Deny", or "NoOpinion" to ask the authorizers behind it.
        match_conditions: in CEL, over `request`, the spec of a review of v1: it is asked only where all are true. One
            that has no value counts as a server that cannot be asked, unless another one is false.
        size: how many allowing and how many other answers are remembered. One to a question of 10,000 characters or
            more is not.
        at_once: how many questions are asked at the same time; others wait.
        clock: seconds.

    Raises:
        ConfigurationError: an unknown version or policy, and every mistake in the conditions.
    """

    def __init__(
        self,
        webhook: Webhook,
        *,
        name: str = "webhook",
        version: str = "v1",
        authorized_seconds: float = 300.0,
        unauthorized_seconds: float = 30.0,
        on_failure: FailurePolicy = "Deny",
        match_conditions: Sequence[str] = (),
        size: int = 8192,
        at_once: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        problems: list[Problem] = []
        if version not in _VERSIONS:
            problems.append(Problem("version", f"must be one of {', '.join(_VERSIONS)}"))
        if on_failure not in ("Deny", "NoOpinion"):
            problems.append(Problem("on_failure", "must be one of Deny, NoOpinion"))
        self._conditions = MatchConditions()
        try:
            self._conditions = MatchConditions(match_conditions)
        except ConfigurationError as error:
            problems += [Problem(f"match_conditions{each.path}", each.message) for each in error.problems]
        if problems:
            raise ConfigurationError(problems)
        self._webhook = webhook
        self._name = name
        self._version = version
        self.authorized_seconds = authorized_seconds
        self.unauthorized_seconds = unauthorized_seconds
        self._failed = Verdict(Outcome.DENY if on_failure == "Deny" else Outcome.NO_OPINION)
        self._clock = clock
        self._remembered = Remembered(size)
        self._room = asyncio.Semaphore(at_once)
        self._flights: Flights[Verdict] = Flights()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._last: tuple[Attributes | None, Verdict] = None, _NO_OPINION  # what it was not asked about

    @classmethod
    def load(
        cls, kubeconfig: str | os.PathLike[str], *, timeout: float = 10.0, **options: Any
    ) -> SubjectAccessReviewWebhook:
        """From a kubeconfig file, whose current context says where the server is.

        Args:
            kubeconfig: the file.
            timeout: seconds for one attempt; several are made within 60 seconds.
            options: as in the constructor.

        Raises:
            ConfigurationError: all the mistakes in the file.
        """
        return cls(Webhook(read_kubeconfig(Path(kubeconfig)), timeout=timeout), **options)

    def __repr__(self) -> str:
        return f"SubjectAccessReviewWebhook({self._name!r}, {self._webhook!r})"

    def verdict(self, attributes: Attributes) -> Verdict | None:
        """What is known already: remembered, or not the server's affair. None where it has to be asked."""
        remembered = self._remembered.get(key_of(attributes), self._clock())
        if remembered is not None or not self._conditions:
            return remembered
        return self._passed_over(attributes, review_spec(attributes))

    async def authorize(self, attributes: Attributes) -> Verdict:
        """What the server says."""
        key = key_of(attributes)
        remembered = self._remembered.get(key, self._clock())
        if remembered is not None:
            return remembered
        spec = review_spec(attributes)
        if (passed_over := self._passed_over(attributes, spec)) is not None:
            return passed_over
        if not (self.authorized_seconds or self.unauthorized_seconds):
            return (await self._ask(spec))[0]
        return await self._flights.join(key, partial(self._ask_and_remember, spec, attributes))

    async def explain(self, attributes: Attributes) -> Explanation:
        """What the server says; where it is not asked, the condition because of which; and who could allow it."""
        called = self._called
        false = self._conditions.match(review_spec(attributes)).false
        if false:
            miss = Miss(f"{called}, which is not asked", (("condition", false, "false"),))
            note = f"{called} is asked where its conditions are true: change them, or let another authorizer allow it"
            return Explanation(_NO_OPINION, misses=(miss,), note=note)
        verdict = await self.authorize(attributes)
        if verdict.allowed:
            return Explanation(verdict, called)
        if verdict.error:
            note = f"while {called} cannot be asked, its failure policy decides: mend it, or let one before it allow it"
        else:
            note = f"{called} decides by what is known there: allow it there, or by another authorizer before it"
        reason = f"{called}: {verdict.reason}" if verdict.reason else called
        return Explanation(verdict, reason if verdict.outcome is Outcome.DENY else "", note=note)

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        """Nothing: a server that answers questions has no list."""
        return Rules(incomplete=True, error=f"{self._called} cannot list what somebody may do")

    def count_on(self, before: SubjectAccessReviewWebhook) -> None:
        """Go on with the figures of another one, in whose place this one stands, and which may still be answered."""
        self._counts = before._counts

    def samples(self) -> Iterator[Sample]:
        """As `Source.samples`: what became of the questions, and for how many requests there was none."""
        for (what, result), count in self._counts.items():
            metric, help_text, label = _METRICS[what]
            yield Sample(metric, help_text, "counter", (("name", self._name), (label, result)), count)

    @property
    def _called(self) -> str:
        return f"the webhook {self._name}"

    def _passed_over(self, attributes: Attributes, spec: Mapping[str, Any]) -> Verdict | None:
        """The verdict where conditions say that the server is not asked, or have no value."""
        last, verdict = self._last
        if last is attributes:
            return verdict  # it was asked at once, and again because another authorizer has to be awaited
        matched = self._conditions.match(spec)
        if matched.false:
            self._counts["exclusion", "Webhook"] += 1
            verdict = _NO_OPINION
        elif matched.errors:
            self._counts["condition", "Webhook"] += 1
            verdict = self._failure("; ".join(matched.errors))
        else:
            return None
        self._last = attributes, verdict
        return verdict

    async def _ask_and_remember(self, spec: dict[str, Any], attributes: Attributes) -> Verdict:
        verdict, holds = await self._ask(spec)
        seconds = self.authorized_seconds if verdict.allowed else self.unauthorized_seconds
        if holds and seconds and size_of(attributes) < _CACHEABLE:
            self._remembered.put(key_of(attributes), verdict, self._clock() + seconds)
        return verdict

    async def _ask(self, spec: dict[str, Any]) -> tuple[Verdict, bool]:
        """What the server says, and whether that may be remembered."""
        version = f"{_GROUP}/{self._version}"
        sent = wire_spec(spec, self._version)
        review = {"apiVersion": version, "kind": "SubjectAccessReview", "metadata": {}, "spec": sent}
        try:
            async with asyncio.timeout(_LONGEST), self._room:
                verdict = _verdict(await self._webhook.ask(review), version)
        except (UpstreamError, TimeoutError) as error:
            late = isinstance(error, UpstreamTimeout | TimeoutError)
            problem = str(error) or "it did not answer in time"
            return self._failure(problem, "timeout" if late else "error"), False
        except asyncio.CancelledError:
            self._counts["evaluation", "canceled"] += 1
            raise
        self._counts["evaluation", "success"] += 1
        if verdict.error:
            return verdict._replace(error=f"{self._called} {verdict.error}"), False
        return verdict, True

    def _failure(self, problem: str, result: str = "") -> Verdict:
        if result:
            self._counts["evaluation", result] += 1
            if self._failed.outcome is Outcome.NO_OPINION:
                self._counts["fail open", result] += 1
        _log.warning("webhook gave no verdict", webhook=self._name, problem=problem)
        return self._failed._replace(error=f"{self._called}: {problem}")


_METRICS = {
    "evaluation": (
        "apiserver_authorization_webhook_evaluations_total",
        "Questions to authorization webhooks, by what became of them.",
        "result",
    ),
    "fail open": (
        "apiserver_authorization_webhook_evaluations_fail_open_total",
        "Questions without an answer that other authorizers decided.",
        "result",
    ),
    "exclusion": (
        "apiserver_authorization_match_condition_exclusions_total",
        "Requests about which a webhook was not asked, because a condition is false.",
        "type",
    ),
    "condition": (
        "apiserver_authorization_match_condition_evaluation_errors_total",
        "Requests for which a condition has no value.",
        "type",
    ),
}

_COUNTED = (
    *(("evaluation", result) for result in ("success", "error", "timeout", "canceled")),
    *(("fail open", result) for result in ("error", "timeout")),
    ("exclusion", "Webhook"),
    ("condition", "Webhook"),
)


def _verdict(answer: Mapping[str, Any], version: str) -> Verdict:
    """What an answer means.

    Raises:
        UpstreamBroken: nonsense.
    """
    if answer.get("kind") != "SubjectAccessReview" or answer.get("apiVersion") != version:
        raise UpstreamBroken("its answer is not a SubjectAccessReview of the version that was sent")
    status = answer.get("status")
    if not isinstance(status, dict):
        raise UpstreamBroken("its answer has no status")
    allowed, denied = _said(status, "allowed"), _said(status, "denied")
    reason = status.get("reason")
    # Half a pair of surrogates, which JSON can say and UTF-8 cannot, becomes what Go makes of it.
    reason = _HALF.sub("\ufffd", reason[:_LONGEST_REASON]) if isinstance(reason, str) else ""
    if allowed and denied:
        return Verdict(Outcome.DENY, reason, "both allows and denies")
    if denied:
        return Verdict(Outcome.DENY, reason)
    return Verdict(Outcome.ALLOW if allowed else Outcome.NO_OPINION, reason)


def _said(status: Mapping[str, Any], name: str) -> bool:
    value = status.get(name)
    if value is not None and not isinstance(value, bool):
        raise UpstreamBroken(f"its answer has {name} that is neither true nor false")
    return value is True
