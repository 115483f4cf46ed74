"""Real kubectl with a client certificate that is revoked while the server runs."""

from __future__ import annotations

import base64
import signal
from pathlib import Path

import yaml
from tests.e2e.test_impersonation import served, whoami
from tests.server.test_revocation import list_of

from aggmw.pki.make import KeyPair
from aggmw.server.directory import Directory

CONFIG = """\
grace: 2s
authentication: {clientCertificates: {crls: [revoked.crl]}}
authorization: {policy: policy.csv}
"""


def test_a_revoked_certificate(tmp_path: Path, kubectl_program: Path) -> None:
    """Shown by 3 and 4: known by its certificate, refused once it is on a list that was read; another one is not."""
    state = Directory.open(tmp_path / "state")
    authority = KeyPair(
        (tmp_path / "state" / "client-ca.crt").read_bytes(), (tmp_path / "state" / "client-ca.key").read_bytes()
    )
    (tmp_path / "revoked.crl").write_bytes(list_of(authority))
    with served(tmp_path, kubectl_program, config=CONFIG) as site:
        dora, erin = (
            site.kubectl(state.kubeconfig(name, server=site.url, user=name, groups=("dev",)))
            for name in ("dora", "erin")
        )
        assert whoami(dora)["username"] == "dora"
        user = yaml.safe_load(dora.kubeconfig.read_text())["users"][0]["user"]
        shown = KeyPair(base64.b64decode(user["client-certificate-data"]), b"")
        (tmp_path / "revoked.crl").write_bytes(list_of(authority, shown))
        assert whoami(dora)["username"] == "dora"  # nobody said so yet
        site.process.send_signal(signal.SIGHUP)
        site.until("reloaded")
        while True:
            refused = dora.run("auth", "whoami")
            if refused.returncode:
                break
        assert "You must be logged in to the server" in refused.stderr
        assert whoami(erin)["username"] == "erin"
        site.stop()
