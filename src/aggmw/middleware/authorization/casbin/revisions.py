"""A short name for what a policy says: the same rules have the same one, in every process."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from aggmw.middleware.authorization.casbin.model import Model
from aggmw.middleware.authorization.casbin.policy import Row

__all__ = ["revision_of"]

_DIGITS = 12
_BYTES = 16


def revision_of(model: Model, rows: Iterable[Row], *, in_order: bool) -> str:
    """A digest of a model and its rows, as hexadecimal digits. Places, comments and white space do not count.

    Args:
        in_order: whether the order of the rows does. Where it decides nothing, a database may give them in any.
    """
    whole = blake2b(digest_size=_BYTES)
    for key in sorted(model.definitions):
        whole.update(_bytes((key, model.definitions[key].value)))
    total = 0
    for row in rows:
        text = _bytes((row.ptype, *row))
        if in_order:
            whole.update(text)
        else:
            # A sum is the same in any order, and needs no sorting.
            total += int.from_bytes(blake2b(text, digest_size=_BYTES).digest(), "big")
    whole.update(b"%x" % total)
    return whole.hexdigest()[:_DIGITS]


def _bytes(texts: Iterable[str]) -> bytes:
    """Texts in a way that no others have."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return b"".join([b"%d:%s" % (len(one), one) for one in encoded]) + b"\n"
