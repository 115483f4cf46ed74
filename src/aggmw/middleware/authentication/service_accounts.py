"""ServiceAccounts: tokens that we issue ourselves, for accounts of programs (wire contract §6.7)."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from aggmw.contracts.documents import Publication
from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Credential, Identity, Presented, authenticated
from aggmw.contracts.options import check_seam
from aggmw.contracts.tokens import NO_AUDIENCES, AccountLookup, BoundObject
from aggmw.errors import ConfigurationError, InvalidCredentials, Problem, StatusError
from aggmw.middleware.authentication.bearer import presented_token
from aggmw.middleware.authentication.claims import CREDENTIAL_ID
from aggmw.middleware.authentication.jose import (
    BadKeys,
    SignedBy,
    SigningKey,
    VerificationKey,
    VerificationKeys,
    parse_pem,
    public_document,
)
from aggmw.middleware.authentication.jwks import WELL_KNOWN
from aggmw.middleware.authentication.jwt import LEEWAY, audiences_of, check_times, read_token
from aggmw.objects.names import is_group, is_service

__all__ = ["KEYS_PATH", "AccountKeys", "IssuedToken", "ServiceAccounts"]

KEYS_PATH = "/openid/v1/jwks"
"""Where the public keys are published."""

LEAST_SECONDS, MOST_SECONDS = 600, 1 << 32
"""What a TokenRequest may ask for."""

_PUBLIC_SECONDS = 300
_AT_ONCE = 500  # tokens that are looked at before others have their turn
_PRIVATE = "kubernetes.io"
_PREFIX = "system:serviceaccount"
_EXTRA = "authentication.kubernetes.io"
_ACCOUNT = "ServiceAccount"
_BOUND = {"Pod": "pod", "Secret": "secret", "Node": "node"}


class IssuedToken(NamedTuple):
    """A new token.

    Attributes:
        token: to be presented as `Authorization: Bearer`.
        expires: when it ends, in seconds since the epoch.
    """

    token: str
    expires: float

    def __repr__(self) -> str:
        return f"IssuedToken(…, expires={self.expires:.0f})"


class AccountKeys(NamedTuple):
    """Keys of service accounts, read and checked. That takes long for large keys, and may be done in any thread.

    Attributes:
        believed: whose tokens count.
        signer: signs new ones; None: nobody does.
    """

    believed: VerificationKeys
    signer: SigningKey | None

    @classmethod
    def read(cls, *, keys: Sequence[bytes] = (), signing_key: bytes | None = None) -> AccountKeys:
        """The keys of PEM files, as for `ServiceAccounts`.

        Raises:
            ConfigurationError: keys that cannot be used, or none.
        """
        problems: list[Problem] = []
        signer: SigningKey | None = None
        found: list[VerificationKey] = []
        if signing_key is not None:
            try:
                signer = SigningKey(signing_key)
                found.append(signer.public)
            except BadKeys as error:
                problems.append(Problem("signingKey", str(error)))
        for number, data in enumerate(keys):
            try:
                found += parse_pem(data)
            except BadKeys as error:
                problems.append(Problem(f"keys[{number}]", str(error)))
        if not found and not problems:
            problems.append(Problem("keys", "none is given, and no signingKey"))
        if problems:
            raise ConfigurationError(problems)
        return cls(VerificationKeys({key.kid: key for key in found}.values()), signer)


class _Rest(NamedTuple):
    """Something that has to be there, or a token is no longer good."""

    kind: str
    namespace: str
    name: str
    uid: str


class _Belief(NamedTuple):
    """What a token that was believed rests on: a key, and what has to be there."""

    signer: SignedBy
    rests: list[_Rest]


class ServiceAccounts:
    """Issues tokens of service accounts and knows their owners: `system:serviceaccount:NAMESPACE:NAME`.

    A token is good as long as its account and what it is bound to exist, each with the uid that it had.

    With an issuer that is a URL, its discovery document and its keys are published at
    `/.well-known/openid-configuration` and `/openid/v1/jwks`, for those whom authorization lets get these paths.

    Args:
        issuer: what tokens say in `iss`.
        accounts: which accounts there are.
        keys: PEM files of keys, public or private, whose tokens are believed; that of `signing_key` always is.
        signing_key: a PEM file with the private key of new tokens, RSA or of a NIST curve. None: none are issued.
        audiences: for whom tokens are when nobody says; one of them must be meant by what is presented. The issuer,
            when left out.
        max_seconds: the longest life of a token; requests for more get that.
        clock: seconds since the epoch.

    Attributes:
        issuer: as given.
        audiences: one of these must be meant by what is presented.
        default_audiences: for whom new tokens are when nobody says.

    Raises:
        ConfigurationError: keys that cannot be used, or none.
    """

    credentials = frozenset({b"authorization"})

    def __init__(
        self,
        issuer: str,
        accounts: AccountLookup,
        *,
        keys: Sequence[bytes] = (),
        signing_key: bytes | None = None,
        audiences: Sequence[str] = (),
        max_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_seam("accounts", accounts, "account")
        if not issuer:
            raise ConfigurationError([Problem("issuer", "must not be empty")])
        self.issuer = issuer
        self.audiences = frozenset(audiences) or frozenset({issuer})
        self.default_audiences = tuple(audiences) or (issuer,)
        self._accounts = accounts
        self._max_seconds = max_seconds
        self._clock = clock
        self._believed: WeakKeyDictionary[Drain, _Belief] = WeakKeyDictionary()
        self.reload(keys=keys, signing_key=signing_key)

    def __repr__(self) -> str:
        return f"ServiceAccounts({self.issuer!r}, {self._keys!r})"

    def reload(self, *, keys: Sequence[bytes] = (), signing_key: bytes | None = None) -> None:
        """Believe these keys, and sign with that one, from now on. On a mistake nothing changes.

        To change the signing key, list its successor in `keys` wherever tokens are verified first, then sign with it,
        and leave the old one in `keys` until the last of its tokens has expired. What was opened by tokens of a key
        that is not among them ends. Call it on the event loop.

        Raises:
            ConfigurationError: as on construction.
        """
        self.use(AccountKeys.read(keys=keys, signing_key=signing_key))

    def use(self, keys: AccountKeys) -> None:
        """As `reload`, with keys that were read before."""
        self._keys, self._signer = keys
        self._documents = self._published()
        self._revision = object()
        self._seen: object = None
        signers = {belief.signer for belief in self._believed.values()}  # few, however many tokens there are
        if gone := {each for each in signers if not self._keys.hold(each)}:
            for withdrawal in [each for each, belief in self._believed.items() if belief.signer in gone]:
                self._believed.pop(withdrawal, None)
                withdrawal.begin()

    @property
    def revision(self) -> object:
        """As `TokenAuthenticator.revision`: another one with other keys, and whenever an account comes or goes."""
        if (accounts := self._accounts.revision) is not self._seen:
            self._seen, self._revision = accounts, object()
        return self._revision

    @property
    def documents(self) -> Mapping[str, Publication]:
        """What tells others our keys, by path; none unless the issuer is a URL."""
        return self._documents

    async def authenticate(self, presented: Presented) -> Identity | None:
        """Whose bearer token it is; None when none is presented.

        Raises:
            InvalidCredentials: a token that is not good here, or several.
        """
        token = presented_token(presented)
        return None if token is None else await self.authenticate_token(token, presented.audiences)

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity | None:
        """As `TokenAuthenticator.authenticate_token`: a token is also refused when it is none of ours at all."""
        read = read_token(token)
        if read.issuer != self.issuer:
            raise InvalidCredentials("the token is not of the issuer of service accounts")
        if not (audiences or self.audiences).intersection(audiences_of(read.claims)):
            raise InvalidCredentials("the token is for somebody else (aud)")
        expires = check_times(read.claims, self._clock(), leeway=LEEWAY)
        signer = self._keys.signer(read.algorithm, read.kid, read.signed, read.signature)
        if signer is None:
            raise InvalidCredentials("the token's signature is by no key of service accounts")
        return await self._identity(read.claims, expires, signer)

    async def withdraw(self) -> None:
        """End what is forwarded by tokens whose account, or what they are bound to, is gone. Call it when that may be.

        Without it that goes on until the token expires; a new request is refused at once, whether or not.

        Raises:
            Exception: something could not be looked up. What that concerns goes on; everything else was looked at.
        """
        broken: Exception | None = None
        for number, (withdrawal, belief) in enumerate(list(self._believed.items()), 1):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)  # what is known of accounts is mostly known at once
            try:
                gone = await self._is_any_gone(belief.rests)
            except Exception as error:  # noqa: BLE001  whatever it was, the others are to end all the same
                broken = broken or error
                continue
            if gone:
                self._believed.pop(withdrawal, None)
                withdrawal.begin()
        if broken is not None:
            raise broken

    async def issue(
        self,
        namespace: str,
        name: str,
        *,
        audiences: Sequence[str] = (),
        expiration_seconds: int = 3600,
        bound: BoundObject | None = None,
        node: BoundObject | None = None,
    ) -> IssuedToken:
        """A new token, as a TokenRequest asks for one.

        Args:
            namespace, name: of the account.
            audiences: for whom; our own, when left out.
            expiration_seconds: its life, at least 600; cut to `max_seconds`.
            bound: what it ends with; without a uid the one that there is.
            node: where a bound pod runs, for the identity's extra.

        Raises:
            StatusError: 404 for an account or bound object that does not exist, 409 for one with another uid, 422 for
                what may not be asked for, 405 when there is no signing key.
        """
        if self._signer is None:
            raise StatusError(405, "MethodNotAllowed", "tokens are not issued here: there is no signing key")
        self._check(namespace, name, expiration_seconds, bound)
        uid = await self._accounts.account(namespace, name)
        if uid is None:
            raise StatusError(404, "NotFound", f'serviceaccounts "{name}" not found')
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        if bound is not None:
            bound_uid = await self._check_bound(bound, namespace)
            private[_BOUND[bound.kind]] = {"name": bound.name, "uid": bound_uid}
        if node is not None:
            private["node"] = {"name": node.name, "uid": node.uid}
        seconds = self.granted_seconds(expiration_seconds)
        now = int(self._clock())
        claims = {
            "aud": list(audiences) or list(self.default_audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
            _PRIVATE: private,
            "nbf": now,
            "sub": f"{_PREFIX}:{namespace}:{name}",
        }
        return IssuedToken(self._signer.sign(claims), now + seconds)

    def granted_seconds(self, asked: int) -> int:
        """How long a token would be good for which so much is asked."""
        return asked if self._max_seconds is None else min(asked, int(self._max_seconds))

    def _check(self, namespace: str, name: str, seconds: int, bound: BoundObject | None) -> None:
        if not is_service(namespace) or not is_group(name):
            raise StatusError(404, "NotFound", "there is no service account of such a name")
        problems = []
        if seconds < LEAST_SECONDS:
            problems.append(
                f"spec.expirationSeconds: Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            )
        if seconds > MOST_SECONDS:
            problems.append(f"spec.expirationSeconds: Too long: may not be more than {MOST_SECONDS}")
        if bound is not None and bound.kind not in _BOUND:
            problems.append(f"spec.boundObjectRef.kind: Unsupported value: {bound.kind}: Pod, Secret or Node")
        if problems:
            raise StatusError(422, "Invalid", f'TokenRequest "{name}" is invalid: {", ".join(problems)}')

    async def _check_bound(self, bound: BoundObject, namespace: str) -> str:
        """The uid of what a token is to be bound to."""
        found = await self._accounts.bound(bound.kind, "" if bound.kind == "Node" else namespace, bound.name)
        if found is None:
            raise StatusError(404, "NotFound", f'{bound.kind.lower()}s "{bound.name}" not found')
        if bound.uid and found != bound.uid:
            raise StatusError(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {bound.kind.lower()}s "{bound.name}": the UID in the bound object'
                f" reference ({bound.uid}) does not match the UID in record. The object might have been deleted and"
                " then recreated",
            )
        return found

    async def _identity(self, claims: Mapping[str, Any], expires: float, signer: SignedBy) -> Identity:
        private = _Private(claims.get(_PRIVATE))
        namespace, (name, uid) = private.namespace, private.reference("serviceaccount")
        if not name or claims.get("sub") != f"{_PREFIX}:{namespace}:{name}":
            raise InvalidCredentials("the token does not name its service account (sub)")
        rests = [_Rest(_ACCOUNT, namespace, name, uid)]
        withdrawal = Drain()
        # From now on: what goes while others are looked up is noticed.
        self._believed[withdrawal] = _Belief(signer, rests)
        if not await self._is_there(rests[0]):
            raise InvalidCredentials("the token's service account does not exist, or is another of that name")
        extra: dict[str, list[str]] = {}
        if isinstance(identifier := claims.get("jti"), str) and identifier:
            extra[CREDENTIAL_ID] = [f"JTI={identifier}"]
        references = {kind: private.reference(member) for kind, member in _BOUND.items()}
        for kind, (bound, bound_uid) in references.items():
            # The node of a pod is where the pod ran: it says something, and binds to nothing.
            if bound and not (kind == "Node" and references["Pod"][0]):
                rests.append(_Rest(kind, "" if kind == "Node" else namespace, bound, bound_uid))
                if not await self._is_there(rests[-1]):
                    raise InvalidCredentials(f"the {kind} that the token is bound to does not exist, or is another one")
            if bound and kind != "Secret":
                extra[f"{_EXTRA}/{_BOUND[kind]}-name"] = [bound]
                extra[f"{_EXTRA}/{_BOUND[kind]}-uid"] = [bound_uid]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        credential = Credential(ambient=False, expires=expires, withdrawal=withdrawal)
        return authenticated(Identity(f"{_PREFIX}:{namespace}:{name}", uid, groups, extra, credential))

    async def _is_there(self, rest: _Rest) -> bool:
        if rest.kind == _ACCOUNT:
            return await self._accounts.account(rest.namespace, rest.name) == rest.uid
        return await self._accounts.bound(rest.kind, rest.namespace, rest.name) == rest.uid

    async def _is_any_gone(self, rests: Iterable[_Rest]) -> bool:
        for rest in rests:
            if not await self._is_there(rest):
                return True
        return False

    def _published(self) -> Mapping[str, Publication]:
        if not self.issuer.startswith("https://"):
            return {}
        algorithms = sorted({name for key in self._keys.keys for name in key.algorithms})
        document = {
            "issuer": self.issuer,
            "jwks_uri": self.issuer.rstrip("/") + KEYS_PATH,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        }
        return {
            WELL_KNOWN: Publication(b"application/json", json.dumps(document).encode(), _PUBLIC_SECONDS),
            KEYS_PATH: Publication(b"application/jwk-set+json", public_document(self._keys.keys), _PUBLIC_SECONDS),
        }


class _Private:
    """The claims that are Kubernetes' own."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, Mapping):
            raise InvalidCredentials(f"the token has no claims of service accounts ({_PRIVATE})")
        self._value = value
        namespace = value.get("namespace")
        if not isinstance(namespace, str) or not namespace:
            raise InvalidCredentials("the token does not name the namespace of its service account")
        self.namespace = namespace

    def reference(self, member: str) -> tuple[str, str]:
        """Name and uid of an object; two empty texts when it is not there."""
        value = self._value.get(member)
        if value is None:
            return "", ""
        name, uid = (value.get("name"), value.get("uid")) if isinstance(value, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(uid, str) or not name or not uid:
            raise InvalidCredentials(f"the token names its {member} by something that is none")
        return name, uid
