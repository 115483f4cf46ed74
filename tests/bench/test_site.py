"""What is started for a run, as far as that can be said without starting it."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import nginx
from benchmarks.machine import Cores, free_port, program
from benchmarks.site import Missing, Site, need_module
from benchmarks.workspace import Workspace, rules

from aggmw.middleware.authorization import CasbinAuthorizer


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.make(tmp_path_factory.mktemp("bench"))


def test_missing_module_says_how_to_get_it() -> None:
    """A Python peer that is not installed is named with what installs it."""
    with pytest.raises(Missing, match=r"not installed\. .*make bench.*--group bench"):
        need_module("no_such_peer")


def test_missing_build_says_how_to_get_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is the compiled build, which is measured beside the plain one."""
    monkeypatch.setattr("benchmarks.site._COMPILED", workspace.path / "nowhere")
    monkeypatch.setattr(Site, "_ports", lambda site, tls: (1, 2))
    with pytest.raises(Missing, match=r"not built\. .*make compiled"):
        Site(workspace, Cores(None, None), 1).server("compiled-bare", tls=False)


def test_missing_program_says_how_to_get_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a program, for every server that needs it: it is the backend's."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("benchmarks.machine._ELSEWHERE", ("/nowhere",))
    site = Site(workspace, Cores(None, None), 1)
    for name in ("direct", "nginx"):
        with pytest.raises(Missing, match="apt-get install nginx-light"):
            site.server(name, tls=False)
    assert program("wrk") is None


@pytest.mark.parametrize("tls", [False, True])
def test_nginx_forwards(workspace: Workspace, tls: bool) -> None:
    """The peer keeps connections, streams both ways, and over TLS verifies the backend and shows a certificate."""
    port = free_port()
    written = nginx.peer_configuration(workspace, f"nginx-{tls}", port, 81, 82, tls=tls).read_text()
    assert f"listen 127.0.0.1:{port}{' ssl' * tls} backlog" in written
    for line in ("server 127.0.0.1:81; keepalive", "server 127.0.0.1:82; keepalive"):
        assert line in written
    for line in ("proxy_request_buffering off", "proxy_buffering off"):
        assert line in written
    assert ("proxy_ssl_verify on" in written, "proxy_ssl_certificate " in written) == (tls, tls)


def test_nginx_is_the_backend(workspace: Workspace) -> None:
    """It answers plain and over TLS, and has one large answer of the size that was asked for."""
    written = nginx.backend_configuration(workspace, 91, 92, 1 << 20).read_text()
    assert "listen 127.0.0.1:91 backlog" in written
    assert "listen 127.0.0.1:92 ssl" in written
    assert (workspace.path / "large").stat().st_size == 1 << 20


@pytest.mark.parametrize("number", [10, 1000])
def test_policy_has_so_many_rules(number: int) -> None:
    """The policy of P3 and P7 loads, and is as long as it says."""
    assert len(rules(number).splitlines()) == number
    CasbinAuthorizer.from_text(rules(number))


def test_workspace_is_this_runs(workspace: Workspace) -> None:
    """Certificates are files of one directory, for both sides and their authorities."""
    names = ("front", "front-ca", "back", "back-ca", "front-proxy", "front-proxy-ca")
    assert all(workspace.certificate(name).is_file() and workspace.key(name).is_file() for name in names)
    assert all(Path(workspace.certificate(name)).parent == workspace.path for name in names)
