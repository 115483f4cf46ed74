"""`aggmw token`: what is printed is a token that the configuration believes, or a line that says why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from joserfc.jwk import ECKey
from typer.testing import CliRunner

from aggmw.cli import app
from aggmw.config import load
from aggmw.config.tokens import service_accounts
from aggmw.contracts.identity import Presented

CONFIG = """\
authentication:
  serviceAccounts: {issuer: https://proxy.example, accounts: accounts.yaml, signingKey: sa.key}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "accounts.yaml").write_text(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: ci, name: builder, uid: u1}}\n"
    )
    (tmp_path / "sa.key").write_bytes(ECKey.generate_key("P-256").as_pem(private=True))
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path / "config.yaml"


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["token", *arguments])
    return done.exit_code, done.stdout, done.stderr


async def test_token(config: Path) -> None:
    """One line on standard output, good for as long as it was asked for, and for whom."""
    import asyncio

    status, out, err = await asyncio.to_thread(
        run, "--config", str(config), "--account", "ci/builder", "--seconds", "900", "--audience", "vault"
    )
    assert (status, err) == (0, "")
    (line,) = out.splitlines()
    settings = load(config).authentication.service_accounts
    assert settings is not None
    accounts, _ = service_accounts(settings, "")
    headers = ((b"authorization", b"Bearer " + line.encode()),)
    found = await accounts.authenticate(Presented(headers, audiences=frozenset({"vault"})))
    assert found is not None
    assert found.user == "system:serviceaccount:ci:builder"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--account", "ci/nobody"], 'ci/nobody: serviceaccounts "nobody" not found'),
        (["--account", "builder"], "builder: there is no service account of such a name"),
        (["--account", "ci/builder", "--seconds", "10"], "may not specify a duration less than 10 minutes"),
    ],
)
def test_refused(config: Path, arguments: list[str], complaint: str) -> None:
    """Status 2 and a line."""
    status, out, err = run("--config", str(config), *arguments)
    assert (status, out) == (2, "")
    assert complaint in err


def test_no_service_accounts(config: Path) -> None:
    """Without a configuration there is nothing to sign with."""
    status, _, err = run("--account", "ci/builder")
    assert status == 2
    assert "no authentication.serviceAccounts" in err
    (config.parent / "sa.key").unlink()
    status, _, err = run("--config", str(config), "--account", "ci/builder")
    assert (status, err) == (2, f"{config.parent}/sa.key: cannot be read: No such file or directory\n")
