"""`docs/reference/errors.md` names every error that a client can get: what the code says stands on the page."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import DOCS, ROOT

from aggmw import Backend, Identity, errors
from aggmw.contracts.authorization import Attributes
from aggmw.errors import CompositionError, UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy.errors import failure
from aggmw.net import dial
from aggmw.objects.refusal import forbidden

SOURCE = ROOT / "src" / "aggmw"
PAGE = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")

MESSAGE = {  # what makes an error, and which of its arguments is the message
    "CompositionError": 0,
    "MisplacedStage": 0,
    "StatusError": 2,
    "UpstreamBroken": 0,
    "UpstreamBusy": 0,
    "UpstreamTimeout": 0,
    "UpstreamUnreachable": 0,
    "_refused": 0,
    "bad_request": 0,
    "status_answer": 2,
}
HANDED_ON = {  # messages that a call does not spell: where, which expression, and the texts that it may be
    ("asgi/applications.py", "running.unavailable"): [
        "its application did not start",
        "its application has not started yet",
        "its application was stopped",
    ],
    ("middleware/discovery/snapshot.py", "message"): [
        " is not available: ",
        "its server has not been asked yet which resources it serves",
    ],
    ("middleware/proxy/transports/asgi.py", "failed"): [
        "Internal error occurred: the application of ",
        " without an answer",
    ],
    ("middleware/proxy/transports/asgi_websocket.py", "failed"): [
        "Internal error occurred: the application of ",
        " without an answer",
    ],
    ("middleware/request_info/middleware.py", "complaint"): [
        "a header name is not a token",
        "a header value holds a control character",
    ],
    ("middleware/request_info/refusals.py", "message"): [" is not supported on resources of kind "],
    ("middleware/proxy/transports/flights.py", "_reason(error)"): [reason for _, reason in dial._REASONS],
    ("middleware/proxy/transports/flights.py", "_reason(TimeoutError())"): [],
    ("net/dial.py", "reason"): [reason for _, reason in dial._REASONS],
    ("net/fetch.py", "reason_of(_origin(error))"): [],
    ("objects/status.py", "error.message"): [],
    ("server/head.py", "message"): [],
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = str(path.relative_to(SOURCE))
        if not name.startswith(("testing/", "server/demo")):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def constants(module: ast.Module) -> dict[str, str]:
    """Texts that have a name in a module."""
    return {
        node.targets[0].id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def texts(node: ast.expr, named: dict[str, str]) -> list[str]:
    """The pieces of a message that are written in the code."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return [text for value in values if isinstance(value, ast.Constant) for text in texts(value, named)]
        case ast.IfExp(body=body, orelse=orelse):
            return [*texts(body, named), *texts(orelse, named)]
        case ast.Name(id=name) if name in named:
            return [named[name]]
        case _:
            return []


def messages() -> Iterator[tuple[str, int, ast.expr, list[str]]]:
    """Every message that the code makes: module, line, expression, and the pieces that are written there."""
    everywhere = {name: text for _, module in modules() for name, text in constants(module).items()}
    for name, module in modules():
        named = everywhere | constants(module)
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MESSAGE:
                message = node.args[MESSAGE[node.func.id]]
                yield name, node.lineno, message, texts(message, named)


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_every_message_is_on_the_page() -> None:
    """A message that the page does not show is a gap."""
    found = [(f"{name}:{line}", text) for name, line, _, pieces in messages() for text in pieces]
    assert len(found) > 80
    assert [each for each in found if words(each[1]).strip(" :;") not in words(PAGE)] == []


def test_messages_that_are_handed_on_are_on_the_page() -> None:
    """Those, too, that are made elsewhere than where they become an error; each is still said somewhere."""
    unspelled = {(name, ast.unparse(message)) for name, _, message, pieces in messages() if not pieces}
    assert unspelled == set(HANDED_ON)
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    for text in [text for pieces in HANDED_ON.values() for text in pieces]:
        assert text in sources, f"nobody says {text!r} any more"
        assert text.strip(" :") in PAGE


def test_causes_of_tls_are_on_the_page() -> None:
    """What dialling says of a certificate."""
    causes = re.findall(r'return "(its [^"]+)"', Path(dial.__file__).read_text(encoding="utf-8"))
    assert len(causes) == 2
    assert [cause for cause in causes if cause not in PAGE] == []


@pytest.mark.parametrize(
    "error", [UpstreamUnreachable("why"), UpstreamBroken("why"), UpstreamTimeout("why")], ids=["503", "502", "504"]
)
@pytest.mark.parametrize("name", ["v1.notes.example.com", "/billing/", ""])
def test_failures_of_backends(name: str, error: UpstreamError) -> None:
    """What is said when a backend fails stands in a row with its code and reason."""
    status = json.loads(failure(Backend(name, "host", 1), error).body)
    who, what = re.fullmatch(r"(.*?) ((?:cannot|failed|timed).*): why", status["message"]).groups()  # type: ignore[union-attr]
    row = (str(status["code"]), status["reason"], f"the server of APIService … {what}: …")
    assert row in [(code, reason, message.strip()) for code, reason, message in rows()]
    assert who.replace("v1.notes.example.com", "…").replace("billing", "…") in PAGE


@pytest.mark.parametrize(
    "attributes",
    [
        Attributes(Identity("u"), "get", True, "g", "v1", "r", "", "n", "o"),
        Attributes(Identity("u"), "list", True, "g", "v1", "r"),
        Attributes(Identity("u"), "get", False, path="/p"),
    ],
    ids=["namespace", "cluster", "path"],
)
def test_refusals(attributes: Attributes) -> None:
    """What is said to whom is refused stands in a row, the request's own words left out."""
    message = re.sub(r'"[^"]*"', '"…"', json.loads(forbidden(attributes).body)["message"])
    message = re.sub(r"^r\.g (?:\"…\" )?is", "… is", re.sub(r"cannot \w+", "cannot …", message))
    assert ("403", "Forbidden", message) in [(code, reason, row.strip()) for code, reason, row in rows()]


def rows() -> list[tuple[str, str, str]]:
    return re.findall(r"^\| (\d{3}) \| (\w+) \| ([^|]+) \|", PAGE, re.MULTILINE)


def test_codes_and_reasons_are_those_of_the_code() -> None:
    """Each constant error of the code stands in a row with its code and its reason."""
    on_the_page = {(code, reason, words(message).strip()) for code, reason, message in rows()}
    missing = []
    for name, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                values = [each.value for each in node.args if isinstance(each, ast.Constant)]
                match node.func.id, values:
                    case (("status_answer" | "StatusError"), [int(code), str(reason), str(message), *_]):
                        row = (str(code), reason, message)
                    case ("bad_request", [str(message)]):
                        row = ("400", "BadRequest", message)
                    case _:
                        continue
                if row not in on_the_page:
                    missing.append((f"{name}:{node.lineno}", *row))
    assert missing == []


def test_every_exception_is_named() -> None:
    """The page names the exceptions of wrong composition that `aggmw.errors` has."""
    values = {name: getattr(errors, name) for name in errors.__all__}
    kinds = [name for name, value in values.items() if isinstance(value, type) and issubclass(value, CompositionError)]
    assert len(kinds) >= 4
    assert [name for name in kinds if f"`{name}`" not in PAGE] == []
