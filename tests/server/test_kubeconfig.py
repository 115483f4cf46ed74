"""Rendering and merging kubeconfig files."""

import base64

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.server.kubeconfig import Access, certificate_user, merge_kubeconfig, render_kubeconfig

TOKEN = Access("https://127.0.0.1:6443", b"CA", "alice", token="t-1")
CERTIFICATE = Access("https://[::1]:6443", b"CA", "admin", certificate=b"CERT", key=b"KEY", namespace="dev")


def test_token() -> None:
    """A token user, everything embedded, in the order that people expect."""
    assert render_kubeconfig(TOKEN).decode() == (
        "apiVersion: v1\n"
        "kind: Config\n"
        "clusters:\n"
        "- name: aggmw\n"
        "  cluster:\n"
        "    server: https://127.0.0.1:6443\n"
        "    certificate-authority-data: Q0E=\n"
        "users:\n"
        "- name: alice\n"
        "  user:\n"
        "    token: t-1\n"
        "contexts:\n"
        "- name: alice@aggmw\n"
        "  context:\n"
        "    cluster: aggmw\n"
        "    user: alice\n"
        "current-context: alice@aggmw\n"
    )


def test_certificate() -> None:
    """A certificate user, with a default namespace."""
    document = yaml.safe_load(render_kubeconfig(CERTIFICATE))
    assert document["users"] == [
        {"name": "admin", "user": {"client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"}}
    ]
    assert document["contexts"][0]["context"] == {"cluster": "aggmw", "user": "admin", "namespace": "dev"}


def test_certificate_comes_back() -> None:
    """What was rendered is found again."""
    assert certificate_user(render_kubeconfig(CERTIFICATE), "admin") == (b"CERT", b"KEY")
    assert certificate_user(render_kubeconfig(CERTIFICATE), "alice") is None
    assert certificate_user(render_kubeconfig(TOKEN), "alice") is None


@pytest.mark.parametrize(
    "user",
    [
        "null",
        "5",
        "{}",
        "{client-certificate-data: '*', client-key-data: '*'}",
        "{client-certificate-data: [], client-key-data: 1}",
    ],
)
def test_odd_users_hold_no_certificate(user: str) -> None:
    """Credentials of another shape are none."""
    assert certificate_user(f"kind: Config\nusers: [{{name: a, user: {user}}}]".encode(), "a") is None


def test_a_secret_is_not_in_the_repr() -> None:
    """Tokens and keys are never printed."""
    assert "t-1" not in repr(TOKEN)
    assert "KEY" not in repr(CERTIFICATE)


@pytest.mark.parametrize(
    "options",
    [{}, {"token": "t", "certificate": b"c", "key": b"k"}, {"certificate": b"c"}, {"token": "t", "key": b"k"}],
)
def test_one_credential(options: dict[str, str | bytes]) -> None:
    """A user has one credential: a token, or a certificate with its key."""
    with pytest.raises(ValueError, match=r"go together|a token or a client certificate"):
        Access("https://x", b"CA", "a", **options)  # type: ignore[arg-type]  # wrong on purpose


def test_merging_nothing_new_changes_no_byte() -> None:
    """A file that already says it stays as it is, comments included."""
    existing = b"# mine\n" + render_kubeconfig(CERTIFICATE)
    assert merge_kubeconfig(existing, CERTIFICATE) == existing


def test_merging_keeps_what_is_there() -> None:
    """Other entries, the current context, extensions: all stay."""
    existing = yaml.safe_dump(
        {
            "kind": "Config",
            "preferences": {"colors": True},
            "users": [{"name": "other", "user": {"token": "x"}}],
            "contexts": [{"name": "other", "context": {"cluster": "c", "user": "other"}}],
            "current-context": "other",
        }
    ).encode()
    merged = yaml.safe_load(merge_kubeconfig(existing, TOKEN))
    assert merged["current-context"] == "other"
    assert merged["preferences"] == {"colors": True}
    assert [user["name"] for user in merged["users"]] == ["other", "alice"]
    assert [context["name"] for context in merged["contexts"]] == ["other", "alice@aggmw"]


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1), st.text(min_size=1), st.binary())
def test_any_text(user: str, token: str, ca: bytes) -> None:
    """Whatever user and token are, YAML gives them back unchanged."""
    document = yaml.safe_load(render_kubeconfig(Access("https://x", ca, user, token=token)))
    assert document["users"] == [{"name": user, "user": {"token": token}}]
    assert base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]) == ca
