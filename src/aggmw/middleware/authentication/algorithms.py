"""What a token may be signed with. No symmetric algorithm, and never none at all (security cases C3)."""

from __future__ import annotations

__all__ = ["ALGORITHMS"]

ALGORITHMS: tuple[str, ...] = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    "EdDSA",
)
"""Only keys of which the other half is the issuer's secret."""
