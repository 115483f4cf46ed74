"""`docs/how-to/trust-the-front-proxy.md` says the truth: its code runs, its table is decided, its words are real.

What it shows in a terminal is done in `tests/e2e/test_backend.py`.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import NameOID
from tests.pki.certificates import NOW, SERVER, authority, connection, leaf

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.backend import RequestHeaderAuthentication
from aggmw.contracts.connection import Connection
from aggmw.errors import ConfigurationError
from aggmw.pki.make import make_ca
from aggmw.pki.read import certificate_details, pem_certificates, signed_by
from aggmw.testing import Client

PAGE = (Path(__file__).parents[2] / "docs/how-to/trust-the-front-proxy.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE))
CA, OTHER = authority("front proxies"), authority("others")
CONNECTIONS = {
    "of the front-proxy CA, an allowed name": connection(leaf(CA), CA),
    "of the front-proxy CA, another name": connection(leaf(CA, [(NameOID.COMMON_NAME, "bob")]), CA),
    "of the front-proxy CA, expired": connection(leaf(CA, lifetime=(-2, -1)), CA),
    "of the front-proxy CA, for servers": connection(leaf(CA, purposes=[SERVER]), CA),
    "of another CA that the listener accepts": connection(leaf(OTHER), OTHER),
    "none, or of a resumed TLS session": Connection(tls=True, trailers_apart=True),
}
HEADERS: dict[str, list[list[tuple[str, str]]]] = {
    "none": [[]],
    "one": [[("X-Remote-User", "u")]],
    "two, or one that cannot be": [[("X-Remote-User", "u")] * 2, [("X-Remote-User", "u\xff")]],
}
RESULTS = {"that user": (200, "u"), "`system:anonymous`": (200, "system:anonymous"), "401": (401, "")}


def run(name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that a file of the page defines, run in a directory."""
    monkeypatch.chdir(directory)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(FILES[name], name, "exec"), names)
    return names


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "front-proxy-ca.crt").write_bytes(make_ca("front proxies").certificate)
    return run("backend.py", tmp_path, monkeypatch)["app"]


def test_every_python_block_is_a_file() -> None:
    """So that all of them are run here."""
    assert PAGE.count("```python") == len(FILES)


async def test_application(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application and the helper for its tests, together."""
    client = Client(run("as_user.py", tmp_path, monkeypatch)["as_user"](app, "alice", "dev"))
    path = "/apis/notes.example.com/v1/notes"
    assert (await client.request("GET", f"{path}/first")).json()["status"] == {
        "reader": "alice",
        "groups": ["dev", "system:authenticated"],
    }
    assert (await client.request("GET", f"{path}/second")).json()["reason"] == "NotFound"
    assert [each["name"] for each in (await client.request("GET", "/apis")).json()["groups"]] == ["notes.example.com"]
    async with client.lifespan():
        pass
    assert (await Client(app).request("GET", path)).status == 401


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend's certificate is signed by its own CA, for the name that the front proxy checks."""
    run("certificates.py", tmp_path, monkeypatch)
    [ca] = pem_certificates((tmp_path / "notes-ca.crt").read_bytes())
    [server] = pem_certificates((tmp_path / "backend.crt").read_bytes())
    assert signed_by(server, ca)
    assert certificate_details(server).names == {"notes.default.svc"}
    assert b"PRIVATE KEY" in (tmp_path / "backend.key").read_bytes()


async def who(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["user"].display_name.encode()})


def rows() -> list[list[str]]:
    table = PAGE.split("| client certificate |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


@pytest.mark.parametrize("row", rows(), ids=" · ".join)
async def test_table_is_decided_as_written(row: list[str]) -> None:
    """Each row, elsewhere and on an anonymous path."""
    certificate, headers, elsewhere, anonymous = row
    app = RequestHeaderAuthentication(
        who, ca=CA.pem, allowed_names=["alice"], anonymous_paths=["/open"], clock=NOW.timestamp
    )
    client = Client(app, connection=CONNECTIONS[certificate])
    for fields in HEADERS[headers]:
        for path, result in (("/a", elsewhere), ("/open", anonymous)):
            response = await client.request("GET", path, fields)
            assert (response.status, response.text if response.status == 200 else "") == RESULTS[result], path


def test_table_is_complete() -> None:
    """Every kind of certificate and of header is in it."""
    assert {row[0] for row in rows()} == CONNECTIONS.keys()
    assert {row[1] for row in rows()} == HEADERS.keys()


def test_options() -> None:
    """The table of options names all of them, and no other."""
    table = PAGE.split("| option |")[1].split("\n\n")[0].splitlines()[2:]
    options = list(inspect.signature(RequestHeaderAuthentication).parameters)[1:]
    assert [row.split("`")[1] for row in table] == options


def test_error_is_the_real_one() -> None:
    """What the page shows is what one gets."""
    [text] = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    with pytest.raises(ConfigurationError) as refused:
        RequestHeaderAuthentication(who)
    assert str(refused.value) == text.rstrip()
