"""Which rule of an issuer gives what: for people who look for a mistake in their configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.middleware.authentication.issuing import NOW, URL, issuer, key, presenting, token, write_keys

from aggmw.contracts.identity import Presented
from aggmw.middleware.authentication import ExtraMapping, JWTAuthenticator, MappedClaim


async def test_rules_are_named(tmp_path: Path) -> None:
    """`sources` says which rule of the token's issuer gives what, and nothing of a token that it does not know."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    rules: dict[str, Any] = {
        "groups": MappedClaim(claim="roles", prefix="idp:"),
        "uid": MappedClaim(expression="claims.sub"),
        "extra": [ExtraMapping("example.com/tenant", "claims.tenant")],
    }
    authenticator = JWTAuthenticator([issuer(keys=path, **rules)], clock=lambda: NOW)
    assert authenticator.sources(presenting(token())) == {
        "user": f"claimMappings.username of {URL}: claim sub",
        "uid": f"claimMappings.uid of {URL}: claims.sub",
        "group": f"claimMappings.groups of {URL}: claim roles, prefix idp:",
        "extra example.com/tenant": f"claimMappings.extra of {URL}: claims.tenant",
    }
    assert authenticator.sources(presenting(token(iss="https://elsewhere.example"))) == {}
    assert authenticator.sources(Presented()) == {}


async def test_issuer_by_its_other_name(tmp_path: Path) -> None:
    """OpenID Connect Core §15.6.2: Google's tokens may leave https:// out; their rules are named all the same."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    google = "https://accounts.google.com"
    authenticator = JWTAuthenticator([issuer(url=google, keys=path)], clock=lambda: NOW)
    found = authenticator.sources(presenting(token(iss="accounts.google.com")))
    assert found["user"] == f"claimMappings.username of {google}: claim sub"
