"""Who may act as whom: the plain right to impersonate, and those that are bound to what is done meanwhile.

Follows `k8s.io/apiserver/pkg/endpoints/filters/impersonation` (KEP-5284; wire contract §6.10). Nothing is remembered
from one request to the next: a right that was taken away is gone.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from aggmw.contracts.authorization import Attributes, Verdict
from aggmw.contracts.identity import (
    SYSTEM_ANONYMOUS,
    SYSTEM_AUTHENTICATED,
    SYSTEM_MASTERS,
    SYSTEM_UNAUTHENTICATED,
    Identity,
)
from aggmw.middleware.impersonation.headers import Wanted

__all__ = ["LEGACY", "MODES", "Judge", "Mode", "Refusal", "granted"]

Judge: TypeAlias = Callable[[Attributes], Awaitable[Verdict]]
"""Decides on attributes; may raise whatever is to end the request."""

_AUTHENTICATION = "authentication.k8s.io"
_NODE_NAME = "authentication.kubernetes.io/node-name"
_ASSOCIATED_KEYS = "authentication.kubernetes.io/associated-node-keys"
_MANY = 4  # values, from which a right to all of them is asked for first
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ACCOUNT = re.compile(rf"system:serviceaccount:({_LABEL}):({_LABEL}(?:\.{_LABEL})*)")
_NODE = "system:node:"
_EXTRA_KEY = re.compile(rf"{_LABEL}(?:\.{_LABEL})*/[A-Za-z0-9/\-._~%!$&'()*+,;=:@]+")


class Refusal(NamedTuple):
    """A right that is missing, and why."""

    attributes: Attributes
    reason: str


class Mode(NamedTuple):
    """One way of acting as somebody else.

    Attributes:
        verb: the right over the identity, such as "impersonate:user-info".
        on: what the verb of the request gets in front, such as "impersonate-on:user-info:"; "" for the plain way,
            which is not bound to what is done.
    """

    verb: str
    on: str = ""

    @property
    def name(self) -> str:
        """As Kubernetes' metrics call it."""
        return self.verb.partition(":")[2] or "legacy"

    def fits(self, requestor: Identity, wanted: Wanted) -> bool:
        """Whether this way is meant for such an identity at all."""
        if not self.on:
            return True
        node = _node(wanted.user)
        account = _ACCOUNT.fullmatch(wanted.user)
        match self.verb:
            case "impersonate:associated-node":
                own = tuple(requestor.extra.get(_NODE_NAME, ())) == (node,)
                return bool(node and wanted.only_a_name and own and _ACCOUNT.fullmatch(requestor.user))
            case "impersonate:arbitrary-node":
                return bool(node and wanted.only_a_name)
            case "impersonate:serviceaccount":
                return bool(account and wanted.only_a_name)
            case _:
                return not node and not account

    def requestor(self, requestor: Identity) -> Identity:
        """Who asks. Of an account that acts as its own node only the names of its extra keys count, as in Kubernetes:
        rights given to one node's account hold on every node."""
        if self.verb != "impersonate:associated-node":
            return requestor
        extra = {_ASSOCIATED_KEYS: tuple(sorted(requestor.extra))}
        return Identity(requestor.user, requestor.uid, requestor.groups, extra, requestor.credential)


LEGACY = Mode("impersonate")
MODES = (
    *(
        Mode(f"impersonate:{name}", f"impersonate-on:{name}:")
        for name in ("associated-node", "arbitrary-node", "serviceaccount", "user-info")
    ),
    LEGACY,
)
"""In the order in which they are tried."""


async def granted(
    modes: Sequence[Mode], judge: Judge, wanted: Wanted, attributes: Sequence[Attributes]
) -> tuple[Identity, Mode] | Refusal:
    """The identity that the caller may act as, and the way; or the first right that is missing.

    Args:
        modes: in the order in which they are tried.
        judge: decides.
        wanted: what the headers ask for.
        attributes: of the request, one or more, as the caller itself.
    """
    first: Refusal | None = None
    requestor = attributes[0].identity
    for mode in modes:
        if not mode.fits(requestor, wanted):
            continue
        refusal = await _missing(mode, judge, wanted, attributes)
        if refusal is None:
            return _acting(mode, requestor, wanted), mode
        first = first or refusal
    if first is None:
        raise ValueError("no way of impersonation fits")  # not with LEGACY among them
    return first


async def _missing(mode: Mode, judge: Judge, wanted: Wanted, attributes: Sequence[Attributes]) -> Refusal | None:
    requestor = mode.requestor(attributes[0].identity)
    if mode.on:
        for each in attributes:
            on = each._replace(identity=requestor, verb=f"{mode.on}{each.verb}")
            if (refusal := await _judged(judge, on)) is not None:
                return refusal
    checks = _Checks(mode, requestor, wanted)
    if (refusal := await _judged(judge, checks.user)) is not None:
        return refusal
    if wanted.uid and (refusal := await _judged(judge, checks.right("uids", wanted.uid))) is not None:
        return refusal
    for complaint, everything, each_value in (checks.groups(), checks.extra()):
        if complaint is not None:
            return complaint
        if everything is not None and (await judge(everything)).allowed:
            continue
        for right in each_value:
            if (refusal := await _judged(judge, right)) is not None:
                return refusal
    return None


_Many: TypeAlias = tuple[Refusal | None, Attributes | None, Iterator[Attributes]]


class _Checks:
    """The rights that one way asks for."""

    def __init__(self, mode: Mode, requestor: Identity, wanted: Wanted) -> None:
        self._mode = mode
        self._requestor = requestor
        self._wanted = wanted
        self._group = _AUTHENTICATION if mode.on else ""

    @property
    def user(self) -> Attributes:
        """Over the name: a user's, or by its own resource a service account's or, in the newer ways, a node's."""
        wanted = self._wanted.user
        if account := _ACCOUNT.fullmatch(wanted):
            return self.right("serviceaccounts", account[2], self._group, namespace=account[1])
        if self._mode.on and (node := _node(wanted)):
            name = "*" if self._mode.verb == "impersonate:associated-node" else node
            return self.right("nodes", name, self._group)
        return self.right("users", wanted, self._group)

    def groups(self) -> _Many:
        """Over the groups: what forbids them altogether, the right over all of them, and each one."""
        groups = self._wanted.groups
        complaint = None
        if self._mode.on and SYSTEM_MASTERS in groups:
            right = self.right("groups", SYSTEM_MASTERS, self._group)
            complaint = Refusal(right, "impersonating the system:masters group is not allowed")
        everything = self.right("groups", "*", self._group) if self._mode.on and len(groups) >= _MANY else None
        return complaint, everything, (self.right("groups", group, self._group) for group in groups)

    def extra(self) -> _Many:
        """Over the extra values, in the same way."""
        extra = self._wanted.extra
        complaint = None
        if self._mode.on and (wrong := _wrong_extra(self._wanted)):
            complaint = Refusal(self.right("userextras", ""), wrong)
        everything = None
        if self._mode.on and sum(map(len, extra.values())) >= _MANY:
            everything = self.right("userextras", "*", subresource="*")
        return (
            complaint,
            everything,
            (self.right("userextras", value, subresource=key) for key, values in extra.items() for value in values),
        )

    def right(
        self, resource: str, name: str, group: str = _AUTHENTICATION, *, namespace: str = "", subresource: str = ""
    ) -> Attributes:
        return Attributes(self._requestor, self._mode.verb, True, group, "v1", resource, subresource, namespace, name)


async def _judged(judge: Judge, attributes: Attributes) -> Refusal | None:
    verdict = await judge(attributes)
    return None if verdict.allowed else Refusal(attributes, verdict.reason)


def _wrong_extra(wanted: Wanted) -> str:
    for key, values in wanted.extra.items():
        if not _EXTRA_KEY.fullmatch(key):
            return "impersonating an extra key without a domain in front is not allowed"
        if "" in values:
            return "impersonating the empty string value in extra is not allowed"
    return ""


def _node(user: str) -> str:
    """The node whose user this is, or ""."""
    name = user.removeprefix(_NODE)
    return name if name != user and len(name) <= 253 and _SUBDOMAIN.fullmatch(name) else ""


def _acting(mode: Mode, requestor: Identity, wanted: Wanted) -> Identity:
    """The identity, with what the server adds to it. What the caller was known by stays what it is."""
    groups = list(wanted.groups)
    if account := _ACCOUNT.fullmatch(wanted.user):
        groups = groups or ["system:serviceaccounts", f"system:serviceaccounts:{account[1]}"]
    elif mode.on and _node(wanted.user):
        groups = ["system:nodes"]
    added = SYSTEM_UNAUTHENTICATED if wanted.user == SYSTEM_ANONYMOUS else SYSTEM_AUTHENTICATED
    if added not in groups and SYSTEM_UNAUTHENTICATED not in groups:
        groups.append(added)
    return Identity(wanted.user, wanted.uid, tuple(groups), wanted.extra, requestor.credential)
