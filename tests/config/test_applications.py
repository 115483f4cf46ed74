"""Applications that a configuration names: found beside its file, and every failure one line with its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggmw.config.applications import import_application, import_wsgi
from aggmw.errors import ConfigurationError
from aggmw.testing import Client

MODULE = """
async def app(scope, receive, send): ...
class holder:
    app = app
number = 7
def wsgi(environ, start_response): ...
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with modules, which nobody can import before and after."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    (tmp_path / "given_application.py").write_text(MODULE)
    (tmp_path / "failing_application.py").write_text("raise RuntimeError('first line\\nsecond line')")
    (tmp_path / "exiting_application.py").write_text("import sys; sys.exit(3)")
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["given_application:app", "given_application:holder.app"])
def test_found_beside_the_file(name: str, modules: Path) -> None:
    """The file's own directory comes first."""
    app = import_application(name, where="x", directory=modules)
    assert app.__name__ == "app"  # type: ignore[attr-defined]  # a function


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("given_application", "must be \"module:attribute\", not 'given_application'"),
        (":app", "must be \"module:attribute\", not ':app'"),
        ("no_such_module:app", "cannot import no_such_module: ModuleNotFoundError: No module named 'no_such_module'"),
        ("given_application:nothing", "given_application has no nothing"),
        ("given_application:number", "given_application:number must be an ASGI application, not int"),
        (
            "given_application:wsgi",
            "given_application:wsgi must be an ASGI application, and function takes no scope, receive and send:"
            " aggmw.backend.WsgiApplication(…) makes one of a WSGI application",
        ),
        ("given_application:holder", "given_application:holder must be an ASGI application, not the class holder"),
        ("failing_application:app", "cannot import failing_application: RuntimeError: first line"),
        ("exiting_application:app", "cannot import exiting_application: SystemExit: 3"),
    ],
)
def test_mistakes(name: str, message: str, modules: Path) -> None:
    """What is wrong and where, in one line, whatever the module does."""
    with pytest.raises(ConfigurationError) as caught:
        import_application(name, where="config.yaml: services.local[0].app", directory=modules)
    assert str(caught.value) == f"config.yaml: services.local[0].app: {message}"


async def test_a_wsgi_application(modules: Path) -> None:
    """The same by its name, and what it is given is an ASGI application; a thing that is none is named as such."""
    (modules / "wsgi_application.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
    )
    app = import_wsgi("wsgi_application:app", where="x", directory=modules)
    assert (await Client(app).request("GET", "/")).body == b"hello"
    with pytest.raises(ConfigurationError, match="given_application:number must be a WSGI application, not int"):
        import_wsgi("given_application:number", where="x", directory=modules)
    with pytest.raises(ConfigurationError, match="looks like an ASGI application, which needs none of this"):
        import_wsgi("given_application:app", where="x", directory=modules)
