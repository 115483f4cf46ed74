"""Pages in a real browser (Chromium, headless) in front of `aggmw serve`, their reader known by a cookie (C5.10).

The cookie is one that browsers send from everywhere, so it is not the browser that protects here. Each page tries what
a page can do without asking anybody; what arrived at the service behind the front proxy is the judge.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.browser.pages import PageServer
from tests.e2e.conftest import PATIENCE, STOP_SECONDS, Demo, Kubectl
from tests.e2e.flunders import path as flunders_path
from tests.ports import free_port

ASSETS = Path(__file__).parent / "browser"
TOKEN = "0123456789abcdef"
FRONT, CONSOLE = "aggmw.corp.test", "console.other.test"
UNLISTED = {"site": "evil.test", "host": "evil.corp.test", "port": FRONT}
# Cookies of other sites, which some browsers leave out by now.
PREFERENCES = {"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": False}}
SIMPLE = ["text", "urlencoded", "multipart", "form"]
CONFIG = """\
port: {port}
tls: {{names: [{front}]}}
grace: 1s
authentication:
  tokenFile: tokens.csv
  cookie: __Host-aggmw
  origins: ["https://{front}:{port}", "https://{console}:{pages}"]
authorization: {{policy: policy.csv}}
services:
  paths: [{{path: /app/, app: "service:app"}}]
"""


@dataclass
class Stage:
    """`aggmw serve`, a server of pages, and what a browser needs."""

    directory: Path
    port: int
    pages: PageServer

    def visit(self, host: str, who: str, *, own: bool = False) -> dict[str, Any]:
        """Sign in, and let the page of a host try; what it says of itself."""
        profile = self.directory / f"profile-{who}"
        (profile / "Default").mkdir(parents=True)
        (profile / "Default" / "Preferences").write_text(json.dumps(PREFERENCES))
        page = f"https://{host}:{self.port}/app/page" if own else f"https://{host}:{self.pages.port}/page"
        command = [
            chromium(),
            "--headless",
            "--no-sandbox",  # where tests run as root there is none
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--ignore-certificate-errors",
            "--host-resolver-rules=MAP *.test 127.0.0.1",
            f"--user-data-dir={profile}",
            f"https://{FRONT}:{self.pages.port}/sign-in?{page}?who={who}",
        ]
        output = profile.with_suffix(".log")
        with output.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            report = self.pages.reports.get(timeout=PATIENCE)
        except queue.Empty:
            pytest.fail(f"no page reported:\n{output.read_text(errors='replace')}", pytrace=False)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its helpers, if any is left
        self.pages.wait_until_idle()
        assert report["who"] == who
        return report

    def arrived(self, who: str) -> list[tuple[str, str]]:
        """What the service got of a page: method and what it tried, as alice all of it."""
        trusted = ssl.create_default_context(cafile=str(self.directory / "state" / "serving-ca.crt"))
        connection = http.client.HTTPSConnection("localhost", self.port, context=trusted, timeout=PATIENCE)
        try:
            connection.request("GET", "/app/seen", headers={"Authorization": f"Bearer {TOKEN}"})
            seen = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        mine = [each for each in seen if each[1].startswith(f"{who},")]
        assert {user for _, _, user in mine} == {"alice"}
        return sorted((method, query.partition(",")[2]) for method, query, _ in mine)


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("Chromium is missing: apt-get install chromium", pytrace=False)
    return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Both servers, running."""
    directory = tmp_path_factory.mktemp("browser")
    port = free_port()
    with PageServer(directory, f"__Host-aggmw={TOKEN}") as pages:
        config = CONFIG.format(port=port, front=FRONT, console=CONSOLE, pages=pages.port)
        page = (ASSETS / "page.html").read_text()
        page = page.replace("FRONT", f"https://{FRONT}:{port}").replace("REPORT", f"https://{CONSOLE}:{pages.port}")
        pages.page = page.encode()
        (directory / "config.yaml").write_text(config)
        (directory / "tokens.csv").write_text(f"{TOKEN},alice,1\n")
        (directory / "policy.csv").write_text("p2, user:alice, *, /app/*\n")
        (directory / "page.html").write_text(page)
        shutil.copy(ASSETS / "service.py", directory)
        command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
        process = subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            lines = []
            while not lines or '"serving"' not in lines[-1]:
                lines.append(process.stderr.readline())
                assert lines[-1], lines
            yield Stage(directory, port, pages)
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS) == 0
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("other", UNLISTED)
def test_c5_10_a_page_of_another_origin(stage: Stage, other: str) -> None:
    """C5.10: from another site, host or port, nothing that may change something arrives, nor does a WebSocket.

    The browser has sent the cookie all the same: what only reads arrives as alice's, unread by the page.
    """
    report = stage.visit(UNLISTED[other], other)
    assert stage.arrived(other) == [("GET", "image"), ("GET", "read")]
    assert report == {
        "who": other,
        "socket": "refused",
        "json": "TypeError",
        "remove": "TypeError",
        "read": "TypeError",
    }


def test_c5_10_a_page_of_a_listed_origin(stage: Stage) -> None:
    """C5.10: what a page of another origin can do without CORS arrives, and a WebSocket is open to it."""
    report = stage.visit(CONSOLE, "console")
    simple = sorted(("POST", each) for each in SIMPLE)
    assert stage.arrived("console") == [("GET", "image"), ("GET", "read"), *simple, ("WebSocket", "socket")]
    assert (report["socket"], report["json"], report["read"]) == ("hello", "TypeError", "TypeError")


def test_c5_10_a_page_of_our_own_origin(stage: Stage) -> None:
    """C5.10: where it is listed, its pages may do and read everything, as their reader."""
    report = stage.visit(FRONT, "own", own=True)
    posts = sorted(("POST", each) for each in [*SIMPLE, "json"])
    assert stage.arrived("own") == [
        ("DELETE", "delete"),
        ("GET", "image"),
        ("GET", "read"),
        *posts,
        ("WebSocket", "socket"),
    ]
    assert report == {"who": "own", "socket": "hello", "json": 200, "remove": 200, "read": 200}


def test_c5_10_a_client_certificate(demo: Demo) -> None:
    """C5.10: shown by a browser for a page, it changes nothing; shown by anything else, it does."""
    target = f"{flunders_path('default')}?labelSelector=test%3Dnobody-has-this"
    for headers, status in (({}, 200), ({"Origin": demo.url}, 403), ({"Sec-Fetch-Site": "same-origin"}, 403)):
        assert demo.request(target, user="admin", method="DELETE", headers=headers)[0] == status
    assert demo.request(target, user="admin", headers={"Origin": demo.url})[0] == 200


def test_c5_10_a_page_behind_kubectl_proxy(demo: Demo, admin: Kubectl) -> None:
    """C5.10: `kubectl proxy` hands on whose page it was, so its user's certificate is not every page's."""
    target = f"{flunders_path('default')}?labelSelector=test%3Dnobody-has-this"
    with admin.start("proxy", "--port=0") as proxy:
        port = int(proxy.line().rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            statuses = []
            for headers in ({}, {"Origin": "https://evil.example"}):
                connection.request("DELETE", target, headers=headers)
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
        finally:
            connection.close()
    assert statuses == [200, 403]
