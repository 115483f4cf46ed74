"""Keys and signatures of JSON Web Tokens (RFC 7515, 7517, 7518, 8037): the only module that knows joserfc.

A key is used as its owner published it, never as a token suggests: what a token's header says of keys (`jwk`, `jku`,
`x5c`, `x5u`) is not read at all. Symmetric keys are none here (security cases C3).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from aggmw.middleware.authentication.algorithms import ALGORITHMS

__all__ = [
    "MAX_KEYS",
    "BadKeys",
    "SignedBy",
    "SigningKey",
    "VerificationKey",
    "VerificationKeys",
    "parse_jwks",
    "parse_pem",
    "public_document",
    "strict_object",
]

_RSA = tuple(name for name in ALGORITHMS if name[0] in "RP")
_CURVES = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA",), "Ed448": ("EdDSA",)}

MAX_KEYS = 64
"""Keys of one issuer; each that fits is tried when a token names none."""

_KINDS: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_RSA_BITS = range(2048, 8193)  # RFC 7518 §3.3; above that a signature takes milliseconds
_MAX_EXPONENT_BITS = 33
_LEAST_MODULUS = 341  # characters of base64: fewer are refused before the library warns of them
_MAX_KID = 1024
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----[^-]*-----END \1-----")
_PEM_KEYS = frozenset({b"PUBLIC KEY", b"RSA PUBLIC KEY", b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"})

_Key: TypeAlias = RSAKey | ECKey | OKPKey


class _Algorithm(Protocol):
    def sign(self, msg: bytes, key: Any) -> bytes: ...
    def verify(self, msg: bytes, sig: bytes, key: Any) -> bool: ...


# Not `get_alg`: it warns of EdDSA, whose name RFC 9864 makes more precise. What is allowed is decided here.
_IMPLEMENTED: Mapping[str, _Algorithm] = {name: JWSRegistry.algorithms[name] for name in ALGORITHMS}


class BadKeys(ValueError):
    """A key, or a set of keys, that cannot be used: why, in one line, to be printed behind where it came from."""


class SignedBy(NamedTuple):
    """Whose signature a token has, and what it called the key: as long as that holds, so does the signature.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        kid: what the token names; None when it names none.
        fingerprint: of the key (`VerificationKey.fingerprint`).
    """

    algorithm: str
    kid: str | None
    fingerprint: bytes


class VerificationKey:
    """A public key and what it may verify.

    Args:
        key: joserfc's.
        kid: its name; "" when it has none.
        algorithms: those that it may be used with.

    Attributes:
        fingerprint: SHA-256 of the public key in DER, whatever it is called.
    """

    __slots__ = ("_key", "algorithms", "fingerprint", "kid")

    def __init__(self, key: _Key, kid: str, algorithms: Iterable[str]) -> None:
        self._key = key
        self.kid = kid
        self.algorithms = frozenset(algorithms)
        self.fingerprint = _fingerprint(key)

    def __repr__(self) -> str:
        return f"VerificationKey({self.kid!r}, {sorted(self.algorithms)})"

    def verify(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's."""
        if algorithm not in self.algorithms:
            return False
        try:
            return _IMPLEMENTED[algorithm].verify(signed, signature, self._key)
        except ValueError:  # an r or s of an ECDSA signature that is no number of the curve
            return False

    def public(self) -> dict[str, Any]:
        """As it is published in a key set."""
        document: dict[str, Any] = dict(self._key.as_dict(private=False))
        document |= {"use": "sig", "kid": self.kid}
        if len(self.algorithms) == 1:
            document["alg"] = next(iter(self.algorithms))
        return document


class VerificationKeys:
    """The keys of one issuer.

    Args:
        keys: in the order in which they are tried.
        source: the document that they came from, to see whether there is anything new.
        dropped: how many keys of it cannot be used.
    """

    __slots__ = ("_by_kid", "dropped", "keys", "source")

    def __init__(self, keys: Iterable[VerificationKey], *, source: bytes = b"", dropped: int = 0) -> None:
        self.keys = tuple(keys)
        self.source = source
        self.dropped = dropped
        self._by_kid: dict[str, list[VerificationKey]] = {}
        for key in self.keys:
            self._by_kid.setdefault(key.kid, []).append(key)

    def __repr__(self) -> str:
        return f"VerificationKeys({len(self.keys)} keys)"

    def signer(self, algorithm: str, kid: str | None, signed: bytes, signature: bytes) -> SignedBy | None:
        """Whose signature it is: of a key with this name, or, when the token names none, of any that fits; or None."""
        for key in self._named(kid):
            if key.verify(algorithm, signed, signature):
                return SignedBy(algorithm, kid, key.fingerprint)
        return None

    def hold(self, signer: SignedBy) -> bool:
        """Whether a signature that was found to be this key's would still be."""
        return any(
            key.fingerprint == signer.fingerprint and signer.algorithm in key.algorithms
            for key in self._named(signer.kid)
        )

    def _named(self, kid: str | None) -> Sequence[VerificationKey]:
        return self.keys if kid is None else self._by_kid.get(kid, ())


def parse_jwks(data: bytes) -> VerificationKeys:
    """The keys of a JSON Web Key Set that can verify signatures.

    Left out, and counted: what is not for signatures, symmetric keys, private ones (whoever reads the set could sign
    with them), keys too short or too long, and what is not understood.

    Raises:
        BadKeys: no key set, more than `MAX_KEYS` keys, or none that can be used.
    """
    try:
        keys = strict_object(data).get("keys")
    except ValueError as error:
        raise BadKeys(f"is no JSON Web Key Set: {error}") from None
    if not isinstance(keys, list):
        raise BadKeys("is no JSON Web Key Set: it has no list of keys")
    if len(keys) > MAX_KEYS:
        raise BadKeys(f"has {len(keys)} keys; more than {MAX_KEYS} are not read")
    usable = [key for key in map(_usable, keys) if key is not None]
    if not usable:
        raise BadKeys("has no key that can be used: public RSA, EC or OKP keys for signatures")
    return VerificationKeys(usable, source=data, dropped=len(keys) - len(usable))


def _usable(value: object) -> VerificationKey | None:
    if not isinstance(value, dict) or value.get("use", "sig") != "sig" or "d" in value or "k" in value:
        return None
    operations = value.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    kind = _KINDS.get(value["kty"]) if isinstance(value.get("kty"), str) else None
    kid = value.get("kid", "")
    if kind is None or not isinstance(kid, str) or len(kid) > _MAX_KID:
        return None
    if kind is RSAKey and len(str(value.get("n"))) < _LEAST_MODULUS:
        return None
    parameters = {name: value[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in value}
    try:
        key = kind.import_key(parameters)
        algorithms = _algorithms(key)
        if (declared := value.get("alg")) is not None:
            algorithms = tuple(name for name in algorithms if name == declared)
        return VerificationKey(key, kid, algorithms) if algorithms else None
    except Exception:  # noqa: BLE001  whatever a stranger's key breaks in the library, it is one key that is not used
        return None


def _algorithms(key: _Key) -> tuple[str, ...]:
    if isinstance(key, RSAKey):
        numbers = key.public_key.public_numbers()
        strong = numbers.n.bit_length() in _RSA_BITS and numbers.e.bit_length() <= _MAX_EXPONENT_BITS
        return _RSA if strong else ()
    return _CURVES.get(key.curve_name, ())


def parse_pem(data: bytes) -> list[VerificationKey]:
    """The public halves of all keys in a PEM file, public or private, named as Kubernetes names them.

    Raises:
        BadKeys: no key, or one that cannot be used.
    """
    return [VerificationKey(key, _key_id(key), _one_algorithm(key)) for key in _pem_keys(data)]


class SigningKey:
    """A private key that signs tokens: RSA (RS256) or of a NIST curve (ES256, ES384, ES512), as Kubernetes' issuer.

    Args:
        data: a PEM file with one private key, not encrypted.

    Raises:
        BadKeys: it cannot be used.
    """

    def __init__(self, data: bytes) -> None:
        keys = _pem_keys(data)
        if len(keys) != 1 or not keys[0].is_private:
            raise BadKeys("must hold one private key")
        self._key = keys[0]
        (self._algorithm,) = _one_algorithm(self._key)
        self._header = _encode(_json({"alg": self._algorithm, "kid": _key_id(self._key)}))
        self.public = VerificationKey(self._key, _key_id(self._key), (self._algorithm,))

    def __repr__(self) -> str:
        return f"SigningKey({self.public.kid!r}, {self._algorithm})"

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims."""
        signed = self._header + b"." + _encode(_json(claims))
        return (signed + b"." + _encode(_IMPLEMENTED[self._algorithm].sign(signed, self._key))).decode("ascii")


def public_document(keys: Iterable[VerificationKey]) -> bytes:
    """A JSON Web Key Set of public keys."""
    return _json({"keys": [key.public() for key in keys]})


def _pem_keys(data: bytes) -> list[_Key]:
    blocks = [match.group() for match in _PEM.finditer(data) if match.group(1) in _PEM_KEYS]
    if not blocks:
        raise BadKeys("holds no key in PEM (-----BEGIN PUBLIC KEY----- or -----BEGIN PRIVATE KEY-----)")
    return [_pem_key(block) for block in blocks]


def _pem_key(block: bytes) -> _Key:
    for kind in (RSAKey, ECKey):
        try:
            key: _Key = kind.import_key(block)
            fitting = _algorithms(key)
        except Exception:  # noqa: BLE001, S112  a key of another kind, or none: the library says so in many ways
            continue
        if fitting:
            return key
    raise BadKeys("holds a key that cannot be used: RSA of 2048 to 8192 bits, P-256, P-384 or P-521, not encrypted")


def _one_algorithm(key: _Key) -> tuple[str]:
    return ("RS256",) if isinstance(key, RSAKey) else (_CURVES[key.curve_name][0],)


def _key_id(key: _Key) -> str:
    """The hash of the public key in DER, as Kubernetes names keys of service accounts."""
    return _encode(_fingerprint(key)).decode("ascii")


def _fingerprint(key: _Key) -> bytes:
    return hashlib.sha256(key.as_der(private=False)).digest()


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def strict_object(data: bytes) -> dict[str, Any]:
    """A JSON object that everybody reads alike: UTF-8, no member twice, no number that JSON does not know.

    Raises:
        ValueError: it is none; the text says why and shows nothing of it.
    """
    try:
        value = _decode(data.decode("utf-8"))
    except _Twice:
        raise ValueError("it has a member twice") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


class _Twice(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Twice
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).decode
