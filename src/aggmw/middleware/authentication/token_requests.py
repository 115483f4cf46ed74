"""`TokenRequest`: new tokens of service accounts over the API, as `kubectl create token` asks for them (§6.7)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aggmw.contracts.catalog import APIResource, APISubresource, GroupVersionKind
from aggmw.contracts.kinds import Object, WriteContext
from aggmw.contracts.options import check_seam
from aggmw.contracts.tokens import BoundObject
from aggmw.errors import StatusError

if TYPE_CHECKING:
    from aggmw.middleware.authentication.service_accounts import ServiceAccounts

__all__ = ["TokenRequests"]

_DEFAULT_SECONDS = 3600


class TokenRequests:
    """`POST /api/v1/namespaces/NAMESPACE/serviceaccounts/NAME/token`: a new token of that account.

    Whoever may create `serviceaccounts/token` of an account may be that account. The account itself is not served, and
    `/api/v1` lists nothing else: where a server or the wrapped application has the core group, leave this out.

    Args:
        accounts: issues the tokens; with a signing key.

    Raises:
        TypeError: something that issues none.
    """

    group, version, subresource = "", "v1", "token"
    resource = APIResource(
        "serviceaccounts",
        GroupVersionKind("", "v1", "ServiceAccount"),
        singular="serviceaccount",
        subresources=(
            APISubresource("token", GroupVersionKind("authentication.k8s.io", "v1", "TokenRequest"), ("create",)),
        ),
    )

    def __init__(self, accounts: ServiceAccounts) -> None:
        check_seam("accounts", accounts, "issue")
        self._accounts = accounts

    def __repr__(self) -> str:
        return f"TokenRequests({self._accounts!r})"

    async def create(self, value: Object, context: WriteContext) -> Object:
        """The object with its status. A dry run has no token in it.

        Raises:
            StatusError: 400 for the name of another account or something that nothing can be bound to; and as
                `ServiceAccounts.issue`.
        """
        info = context.request_info
        metadata: Object = value.get("metadata") or {}
        for field, meant in (("name", info.name), ("namespace", info.namespace)):
            if (metadata.get(field) or meant) != meant:
                raise StatusError(
                    400, "BadRequest", f"the {field} of the TokenRequest is not that of the URL ({meant})"
                )
        spec: Object = value.get("spec") or {}
        asked = spec.get("expirationSeconds")
        seconds = _DEFAULT_SECONDS if asked is None else asked
        bound = _bound(spec.get("boundObjectRef"))
        audiences = list(spec.get("audiences") or self._accounts.default_audiences)
        issued = await self._accounts.issue(
            info.namespace, info.name, audiences=audiences, expiration_seconds=seconds, bound=bound
        )
        if (granted := self._accounts.granted_seconds(seconds)) < seconds:
            context.warnings.append(f"requested expiration of {seconds} seconds shortened to {granted} seconds")
        created, expires = _moment(issued.expires - granted), _moment(issued.expires)
        return {
            "apiVersion": value["apiVersion"],
            "kind": value["kind"],
            "metadata": {"name": info.name, "namespace": info.namespace, "creationTimestamp": created},
            "spec": {**spec, "audiences": audiences, "expirationSeconds": granted},
            "status": {"token": "" if context.dry_run else issued.token, "expirationTimestamp": expires},
        }


def _bound(reference: Object | None) -> BoundObject | None:
    if reference is None:
        return None
    kind, version = reference.get("kind") or "", reference.get("apiVersion") or ""
    if version != "v1" or kind not in ("Pod", "Secret", "Node"):
        raise StatusError(400, "BadRequest", "a token can be bound to a Pod, a Secret or a Node of v1, to nothing else")
    return BoundObject(kind, reference.get("name") or "", reference.get("uid") or "")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
