"""The public interface has types: `tests/typing/api.py` is checked by mypy in strict mode (`make check`), never run."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.public import public_classes

API = Path(__file__).parent / "typing" / "api.py"
NOT_MADE = {
    "Address": "what a URL is parsed into",
    "ClientCertificate": "made by Http1Transport of a ClientCertificatePair",
    "Credentials": "made by the authentication stage, for `scope['auth']`",
    "KeyPair": "made by aggmw.pki",
    "KeyPairPem": "read by a ClientCertificatePair",
    "Stages": "made by every middleware",
    "User": "made by the authentication stage, for `scope['user']`",
}
"""Public classes that no embedder makes, and who does."""


def test_every_public_class_is_typed() -> None:
    """Who adds a class writes there how it is made, or what is done with it."""
    used = {node.id for node in ast.walk(ast.parse(API.read_text())) if isinstance(node, ast.Name)}
    assert {each.__name__ for each in public_classes()} - used == set(NOT_MADE)
