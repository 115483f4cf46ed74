"""`aggmw check auth` as a program: what it prints, and its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aggmw.pki.make import issue_client, make_ca
from aggmw.server.directory import Directory

SECRET = "t0p-secret-token"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = Directory.open(tmp_path / "state")
    clients = make_ca("further clients")
    (tmp_path / "clients.pem").write_bytes(clients.certificate)
    (tmp_path / "carol.pem").write_bytes(issue_client(clients, "carol", groups=["ops"]).certificate)
    (tmp_path / "server.pem").write_bytes(directory.server_certificate.read_bytes())
    (tmp_path / "tokens.csv").write_text(f'{SECRET},alice,1,"devs"\n')
    (tmp_path / "config.yaml").write_text("authentication: {tokenFile: tokens.csv, clientCA: clients.pem}\n")
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "wrong").write_text("another-secret\n")
    (tmp_path / "empty").write_text("\n")
    return tmp_path


def check(place: Path, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "aggmw", "check", "auth", "--dir", "state", "--config", "config.yaml", *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60, check=False)
    for secret in (SECRET, "another-secret"):
        assert secret not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_known_token(place: Path) -> None:
    """Status 0, and who it is."""
    status, out, err = check(place, "--token-file", "token")
    assert (status, err) == (0, "")
    assert "StaticTokens        yes  alice" in out
    assert "group   devs  (column 4 of authentication.tokenFile)" in out


def test_an_unknown_token(place: Path) -> None:
    """Status 1, and why."""
    status, out, err = check(place, "--token-file", "wrong")
    assert (status, err) == (1, "")
    assert "StaticTokens        no   refuses it: unknown bearer token" in out
    assert out.splitlines()[-1] == "401 Unauthorized: nobody knows this credential"


def test_a_certificate(place: Path) -> None:
    """Of a further authority of the configuration."""
    status, out, _ = check(place, "--cert", "carol.pem")
    assert status == 0
    assert "group   ops  (an organization of the subject, O)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cert", "server.pem"), "server.pem: is signed by none of the authorities that are trusted"),
        (("--cert", "token"), "token: holds no PEM certificate"),
        (("--cert", "nowhere"), "nowhere: cannot be read"),
        (("--token-file", "nowhere"), "nowhere: cannot be read"),
        (("--token-file", "empty"), "empty: is empty; it must hold a bearer token"),
        (("--token-file", "token", "--dir", "none"), "none: is no directory of aggmw serve"),
        (("--token-file", "token", "--config", "nowhere"), "nowhere: cannot be read"),
        ((), "give one of --token-file and --cert"),
        (("--token-file", "token", "--cert", "carol.pem"), "give one of --token-file and --cert"),
    ],
)
def test_mistakes(place: Path, arguments: tuple[str, ...], message: str) -> None:
    """Status 2, and a line on standard error that says what is wrong and where."""
    status, out, err = check(place, *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_nothing_is_made(place: Path) -> None:
    """A directory that is not there stays away."""
    check(place, "--token-file", "token", "--dir", "none")
    assert not (place / "none").exists()
