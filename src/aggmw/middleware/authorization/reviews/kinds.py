"""The four kinds: what is asked in, what the authorizer says out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import structlog

from aggmw.contracts.authorization import Attributes, Authorizer, Outcome, RuleLister, Rules, Verdict
from aggmw.contracts.catalog import APIResource, GroupVersionKind
from aggmw.contracts.identity import Identity
from aggmw.contracts.kinds import Object, WriteContext
from aggmw.contracts.options import check_seam
from aggmw.errors import InvalidIdentity, StatusError, fault
from aggmw.middleware.authorization.reviews.specs import Asked, asked, caller_of, spec_errors
from aggmw.objects.field_errors import FieldError, invalid_field, invalid_object

__all__ = ["LocalSubjectAccessReviews", "SelfSubjectAccessReviews", "SelfSubjectRulesReviews", "SubjectAccessReviews"]

_log = structlog.get_logger("aggmw.authorization")

_GROUP, _VERSION = "authorization.k8s.io", "v1"
_MISMATCH = "the namespace of the provided object does not match the namespace sent on the request"
_FAILED = "the authorizer failed"
_UNLISTED = "the authorizer cannot list what it allows: ask for one thing at a time"
_MAX_RULES = 2_000  # of each sort: a longer answer would hold up everybody else


def _resource(kind: str, *, namespaced: bool = False) -> APIResource:
    return APIResource(
        f"{kind.lower()}s",
        GroupVersionKind(_GROUP, _VERSION, kind),
        namespaced=namespaced,
        singular=kind.lower(),
        verbs=("create",),
    )


class _Reviews:
    """What the kinds have in common.

    Args:
        authorizer: decides, on requests and on what reviews ask.
    """

    group, version = _GROUP, _VERSION
    resource: APIResource

    def __init__(self, authorizer: Authorizer) -> None:
        check_seam("authorizer", authorizer, "authorize")
        self._authorizer = authorizer
        self._at_once = getattr(authorizer, "verdict", None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._authorizer!r})"

    def _refuse(self, errors: Iterator[FieldError]) -> None:
        """422 with all the mistakes, if there are any."""
        first = next(errors, None)
        if first is not None:
            raise invalid_object(self.resource.kind, "", chain((first,), errors))

    async def _status(self, question: Asked) -> Object:
        """`SubjectAccessReviewStatus`: what the authorization stage would decide."""
        verdict = await self._decide(question.attributes)
        status: Object = {"allowed": verdict.allowed}
        if verdict.outcome is Outcome.DENY:
            status["denied"] = True
        if verdict.reason:
            status["reason"] = verdict.reason
        if problems := [each for each in (verdict.error, *question.notes) if each]:
            status["evaluationError"] = "; ".join(problems)
        return status

    async def _decide(self, attributes: Attributes) -> Verdict:
        if not attributes.verb:
            return Verdict()
        try:
            verdict: Verdict | None = None if self._at_once is None else self._at_once(attributes)
            return await self._authorizer.authorize(attributes) if verdict is None else verdict
        except Exception as error:  # noqa: BLE001  whatever it was, it is not an allow
            _log.error("authorizer failed", asked_by="review", **fault(error))
            return Verdict(Outcome.NO_OPINION, error=_FAILED)


class SubjectAccessReviews(_Reviews):
    """`SubjectAccessReview`: may somebody do something. What servers ask that leave authorization to the front proxy.

    Whoever may create them learns what everybody may do, so allow it to servers and administrators only.

    Args:
        authorizer: decides.
    """

    resource = _resource("SubjectAccessReview")

    async def create(self, value: Object, context: WriteContext) -> Object:
        """The object with its status.

        Raises:
            StatusError: 422 with every mistake.
        """
        spec: Object = value.get("spec") or {}
        self._refuse(chain(spec_errors(spec), _subject_errors(spec), _metadata_errors(value)))
        return {**value, "metadata": {}, "status": await self._answer(spec)}

    async def _answer(self, spec: Object) -> Object:
        try:
            identity = caller_of(spec)
        except InvalidIdentity as error:
            return {"allowed": False, "evaluationError": f"no request comes from this caller: {error}"}
        return await self._status(asked(spec, identity))


class LocalSubjectAccessReviews(SubjectAccessReviews):
    """`LocalSubjectAccessReview`: the same in one namespace, for those who may know only what is allowed there.

    Args:
        authorizer: decides.
    """

    resource = _resource("LocalSubjectAccessReview", namespaced=True)

    async def create(self, value: Object, context: WriteContext) -> Object:
        """The object with its status.

        Raises:
            StatusError: 422 with every mistake; 400 when it says that it belongs to another namespace.
        """
        spec: Object = value.get("spec") or {}
        namespace = context.request_info.namespace
        if (value.get("metadata") or {}).get("namespace") not in (None, "", namespace):
            raise StatusError(400, "BadRequest", _MISMATCH)
        errors = chain(
            spec_errors(spec),
            _subject_errors(spec),
            _metadata_errors(value, local=True),
            _local_errors(spec, namespace),
        )
        self._refuse(errors)
        return {**value, "metadata": {"namespace": namespace}, "status": await self._answer(spec)}


class SelfSubjectAccessReviews(_Reviews):
    """`SelfSubjectAccessReview`: may the caller do something; what `kubectl auth can-i` asks.

    Args:
        authorizer: decides.
    """

    resource = _resource("SelfSubjectAccessReview")

    async def create(self, value: Object, context: WriteContext) -> Object:
        """The object with its status.

        Raises:
            StatusError: 422 with every mistake.
        """
        spec: Object = value.get("spec") or {}
        self._refuse(chain(spec_errors(spec), _metadata_errors(value)))
        return {**value, "metadata": {}, "status": await self._status(asked(spec, context.identity))}


class SelfSubjectRulesReviews(_Reviews):
    """`SelfSubjectRulesReview`: what the caller may do in a namespace; what `kubectl auth can-i --list` asks.

    It is a list for people and their tools. Where it is not complete it says so, and never decides anything.

    Args:
        authorizer: lists, if it is a `RuleLister`; otherwise the answer is empty and says that it is not complete.
    """

    resource = _resource("SelfSubjectRulesReview")

    async def create(self, value: Object, context: WriteContext) -> Object:
        """The object with its status.

        Raises:
            StatusError: 400 without a namespace.
        """
        namespace = (value.get("spec") or {}).get("namespace") or ""
        if not namespace:
            raise StatusError(400, "BadRequest", "no namespace on request")
        rules = await self._list(context.identity, namespace)
        return {**value, "metadata": {}, "status": _listed(rules)}

    async def _list(self, identity: Identity, namespace: str) -> Rules:
        if not isinstance(self._authorizer, RuleLister):
            return Rules(
                incomplete=True, error="the authorizer cannot list what it allows: ask for one thing at a time"
            )
        try:
            return await self._authorizer.rules_for(identity, namespace)
        except Exception as error:  # noqa: BLE001  whatever it was, nothing is listed
            _log.error("authorizer failed", asked_by="rules review", **fault(error))
            return Rules(incomplete=True, error=_FAILED)


def _subject_errors(spec: Object) -> Iterator[FieldError]:
    if not spec.get("user") and not spec.get("groups"):
        yield invalid_field("spec.user", "", "at least one of user or group must be specified")


def _metadata_errors(value: Object, *, local: bool = False) -> Iterator[FieldError]:
    """Reviews have no metadata: they are not stored. Of those in no namespace, one that is named does not count."""
    metadata = {name: each for name, each in (value.get("metadata") or {}).items() if each and name != "managedFields"}
    namespace = metadata.pop("namespace", "")
    if metadata:
        shown = {"namespace": namespace, **metadata} if local and namespace else metadata
        yield invalid_field("metadata", shown, f"must be empty{' except for namespace' if local else ''}")


def _local_errors(spec: Object, namespace: str) -> Iterator[FieldError]:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and (resource.get("namespace") or "") != namespace:
        named = resource.get("namespace") or ""
        yield invalid_field("spec.resourceAttributes.namespace", named, "must match metadata.namespace")
    if path is not None:
        yield invalid_field("spec.nonResourceAttributes", path, "disallowed on this kind of request")


def _listed(rules: Rules) -> Object:
    """`SubjectRulesReviewStatus`: both lists are there, also when they are empty."""
    problems = [rules.error] if rules.error else []
    long = len(rules.resource) > _MAX_RULES or len(rules.non_resource) > _MAX_RULES
    if long:
        problems.append(f"only the first {_MAX_RULES} rules are listed")
    status: Object = {
        "resourceRules": [_resource_rule(*each) for each in rules.resource[:_MAX_RULES]],
        "nonResourceRules": [
            {"verbs": list(verbs), "nonResourceURLs": list(paths)} for verbs, paths in rules.non_resource[:_MAX_RULES]
        ],
        "incomplete": rules.incomplete or long,
    }
    if problems:
        status["evaluationError"] = "; ".join(problems)
    return status


def _resource_rule(
    verbs: tuple[str, ...], api_groups: tuple[str, ...], resources: tuple[str, ...], names: tuple[str, ...]
) -> Object:
    rule: Object = {"verbs": list(verbs), "apiGroups": list(api_groups), "resources": list(resources)}
    return rule | {"resourceNames": list(names)} if names else rule
