"""`aggmw check config` and `aggmw --version` as programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aggmw.server.directory import Directory

CONFIG = """\
authentication: {tokenFile: tokens.csv}
authorization: {policy: policy.csv}
audit: {policyFile: audit.yaml, log: {path: audit.log}}
"""
AUDIT = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "audit.yaml").write_text(AUDIT)
    (tmp_path / "tokens.csv").write_text("t0p-secret-token,alice,1\n")
    (tmp_path / "policy.csv").write_text("p2, user:alice, *, /app/*\n")
    return tmp_path


def aggmw(place: Path, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "aggmw", *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def names(place: Path) -> list[str]:
    return sorted(str(each.relative_to(place)) for each in place.rglob("*"))


@pytest.mark.parametrize("started", [False, True])
def test_no_mistakes(place: Path, started: bool) -> None:
    """Status 0, what would be served, and nothing is made; also before the first start."""
    if started:
        Directory.open(place / "state")
    before = names(place)
    status, out, err = aggmw(place, "check", "config", "--config", "config.yaml", "--dir", "state")
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    assert first == "config.yaml: no mistakes"
    assert second.startswith("FrontProxy(recovery → request_info → authentication → audit → authorization")
    assert names(place) == before


def test_every_mistake(place: Path) -> None:
    """Status 2, and a line for each mistake in each file, as `aggmw serve` would say."""
    (place / "tokens.csv").write_text("only-a-token\n")
    (place / "policy.csv").write_text("p2, user:alice, *\n")
    with (place / "config.yaml").open("a") as file:
        file.write("tls: {certificate: a.crt, key: a.key}\n")
    arguments = ["--config", "config.yaml", "--dir", "state"]
    status, out, err = aggmw(place, "check", "config", *arguments)
    assert (status, out) == (2, "")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["tokens.csv", "policy.csv", "a.crt", "a.key"]
    status, _, served = aggmw(place, "serve", *arguments, "--port", "0")
    assert status == 2
    assert [line for line in served.splitlines() if not line.startswith("{")] == err.splitlines()


@pytest.mark.parametrize("kind", ["app", "wsgi"])
def test_an_application_that_is_none(place: Path, kind: str) -> None:
    """Its place is said once."""
    (place / "given.py").write_text("number = 7\n")
    (place / "config.yaml").write_text(f"services: {{paths: [{{path: /a/, {kind}: 'given:number'}}]}}\n")
    status, _, err = aggmw(place, "check", "config", "--config", "config.yaml", "--dir", "state")
    assert status == 2
    kinds = {"app": "an ASGI", "wsgi": "a WSGI"}
    assert err == f"config.yaml: services.paths[0].{kind}: given:number must be {kinds[kind]} application, not int\n"


def test_an_unfinished_directory(place: Path) -> None:
    """What is missing in it is said; only `aggmw serve` makes it."""
    directory = Directory.open(place / "state")
    directory.server_key.unlink()
    status, _, err = aggmw(place, "check", "config", "--dir", "state")
    assert status == 2
    assert err == f"{directory.server_key}: cannot be read: No such file or directory\n"
    assert not directory.server_key.exists()


def test_version(tmp_path: Path) -> None:
    """`--version`, as of other programs, is `aggmw version`."""
    status, out, err = aggmw(tmp_path, "--version")
    assert (status, err) == (0, "")
    assert out == aggmw(tmp_path, "version")[1]
    assert out.startswith("aggmw ")
