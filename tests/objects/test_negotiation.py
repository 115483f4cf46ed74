"""Negotiation: who gets the aggregated document, who the legacy one, and who neither."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.objects.negotiation import AGGREGATED_TYPE, Form, is_aggregated, negotiate, parse_media_type

V2 = b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = b"application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        # As recorded from clients (§11.1, §11.15).
        (V2 + b",application/json", Form.AGGREGATED),  # kubectl 1.37 on /api and /apis
        (b"application/json, */*", Form.LEGACY),  # kubectl get --raw, and on /apis/G/V
        (b"application/json", Form.LEGACY),  # the Python client
        (b"*/*", Form.LEGACY),  # kopf, kr8s
        (None, Form.LEGACY),
        (b"application/vnd.kubernetes.protobuf,application/json", Form.LEGACY),
        (V2 + b"," + V2BETA1 + b",application/json", Form.AGGREGATED),  # kubectl 1.27 to 1.32
        (V2BETA1 + b",application/json", Form.LEGACY),  # 1.26: v2beta1 is ignored
        # What negotiation says of others.
        (V2, Form.AGGREGATED),
        (V2 + b";profile=nopeer", Form.AGGREGATED),
        (b"application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io", Form.AGGREGATED),
        (b' application/JSON ; G="apidiscovery.k8s.io" ; v=v2 ; as=APIGroupDiscoveryList', Form.AGGREGATED),
        (V2 + b";q=0.5, application/json", Form.LEGACY),
        (V2 + b";q=0.5, application/json;q=0.4", Form.AGGREGATED),
        (b"application/json, " + V2, Form.LEGACY),
        (V2 + b";q=0, */*", Form.LEGACY),
        (b"application/json;charset=utf-8", Form.LEGACY),
        (b"application/*", Form.LEGACY),
        (b"text/html, application/xml;q=0.9, */*;q=0.8", Form.LEGACY),
        (b"", Form.LEGACY),
        (b"application/json;q=x", Form.LEGACY),
        (V2BETA1, None),
        (b"application/json;as=Table;v=v1;g=meta.k8s.io", None),
        (b"application/json;q=0", None),
        (b"application/vnd.kubernetes.protobuf", None),
        (b"text/html", None),
        (b",;=,", None),
    ],
)
def test_form(accept: bytes | None, form: Form | None) -> None:
    """§3.1: clauses by weight, then as listed; parameters in any order; what nobody knows is skipped."""
    assert negotiate(accept, True) is form


def test_legacy_only() -> None:
    """§3.1: with a slash at the end there is only the legacy document."""
    assert negotiate(V2 + b",application/json", False) is Form.LEGACY
    assert negotiate(V2, False) is None


def test_our_own_type_is_recognised() -> None:
    """client-go compares the Content-Type with what it asked for."""
    assert is_aggregated(parse_media_type(AGGREGATED_TYPE.decode()))


@settings(deadline=None)
@given(st.text('aps/jon*,;=q0.v2g "', max_size=60).map(str.encode) | st.binary(max_size=40))
def test_any_accept_is_answered(accept: bytes) -> None:
    """Whatever a client sends, negotiation ends in a form or in none."""
    assert negotiate(accept, True) in (Form.LEGACY, Form.AGGREGATED, None)
