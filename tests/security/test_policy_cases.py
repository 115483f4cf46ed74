"""Each row of security cases C4, with casbin itself beside ours: it has the fault, and we do not.

What a row says of casbin is asked of casbin here, so that a release that mends it is noticed. The rows are listed with
all their tests in `docs/reference/policy-cases.md`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import casbin
import pytest
from casbin.model import Model as CasbinModel

import aggmw
from aggmw.contracts.authorization import Attributes, Outcome
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer

ALLOW = "some(where (p.eft == allow))"
NONE_DENIED = "!some(where (p.eft == deny))"


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """casbin configures the logging of whoever makes an enforcer; here it says nothing, and leaves nothing behind."""
    root, level = list(logging.getLogger().handlers), logging.getLogger().level
    for name in ("casbin", "casbin.enforcer", "casbin.policy", "casbin.role"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    yield
    logging.getLogger().handlers[:] = root
    logging.getLogger().setLevel(level)


def model(
    matcher: str, *, effect: str = ALLOW, request: str = "sub, obj", policy: str = "sub, obj", g: str = ""
) -> str:
    roles = f"[role_definition]\ng = {g}\n" if g else ""
    return (
        f"[request_definition]\nr = {request}\n[policy_definition]\np = {policy}\n{roles}"
        f"[policy_effect]\ne = {effect}\n[matchers]\nm = {matcher}\n"
    )


def theirs(text: str, *rows: Sequence[str]) -> casbin.Enforcer:
    """casbin itself, with a model and rows, each with its type first."""
    loaded = CasbinModel()
    loaded.load_model_from_text(text)
    for ptype, *columns in rows:
        loaded.add_policy(ptype[0], ptype, list(columns))
    enforcer = casbin.Enforcer(loaded)
    enforcer.build_role_links()
    return enforcer


def ours(text: str, *rows: Sequence[str]) -> CasbinAuthorizer:
    return CasbinAuthorizer.from_text(
        "".join(", ".join(f'"{each}"' for each in row) + "\n" for row in rows), model=text
    )


def asks(user: str, path: str, verb: str = "get") -> Attributes:
    return Attributes(Identity(user), verb, False, path=path)


def allows(authorizer: CasbinAuthorizer, user: str, path: str) -> bool:
    verdict = authorizer.verdict(asks(user, path))
    assert verdict is not None
    return verdict.allowed


def nobody() -> Attributes:
    """A request of empty texts, which no stage lets through; the authorizer has to deny it all the same."""
    identity = Identity("x")
    object.__setattr__(identity, "user", "")
    return Attributes(identity, "", False, path="")


def test_c4_empty_policy_and_empty_request() -> None:
    """Without rules casbin tries the matcher on empty texts: an empty request is allowed. Here nothing is."""
    text = model("r.sub == p.sub && r.obj == p.obj")
    assert theirs(text).enforce("", "")
    for authorizer in (ours(text), CasbinAuthorizer.from_text("")):
        verdict = authorizer.verdict(nobody())
        assert verdict is not None
        assert verdict.outcome is Outcome.DENY


def test_c4_deny_override_before_anything_is_loaded() -> None:
    """That nobody denied it is true of everything while no rule is loaded. Here that denies, and it is warned of."""
    text = model("r.sub == p.sub && r.obj == p.obj", effect=NONE_DENIED, policy="sub, obj, eft")
    assert theirs(text).enforce("eve", "/secret")
    assert not allows(ours(text), "eve", "/secret")
    [warning] = ours(text, ("p", "eve", "/x", "deny")).warnings
    assert "allows every request that no rule denies" in str(warning)


def test_c4_enforcement_cannot_be_switched_off() -> None:
    """`enable_enforce(False)` allows everything. Nothing of ours takes such an option, or calls it."""
    enforcer = theirs(model("r.sub == p.sub && r.obj == p.obj"))
    enforcer.enable_enforce(False)
    assert enforcer.enforce("eve", "/secret")
    options = inspect.signature(CasbinAuthorizer).parameters
    assert not [name for name in (*options, *dir(CasbinAuthorizer)) if "enforce" in name or "enable" in name]
    sources = Path(aggmw.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "enable_enforce" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("function", ["keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5"])
def test_c4_dots_and_line_breaks_in_key_patterns(function: str) -> None:
    """A dot stands for any character, `$` accepts a line break after it, and a segment may hold one. Here: literal."""
    text = model(f"{function}(r.obj, p.obj)")
    rows = ("p", "alice", "/apis/apps.example.com")
    assert theirs(text, rows).enforce("alice", "/apis/appsXexample-com")
    assert not allows(ours(text, rows), "alice", "/apis/appsXexample-com")
    assert theirs(text, rows).enforce("alice", "/apis/apps.example.com\n")
    assert not allows(ours(text, rows), "alice", "/apis/apps.example.com\n")
    segment = ("p", "alice", "/a/:x/b" if function == "keyMatch2" else "/a/{x}/b")
    assert theirs(text, segment).enforce("alice", "/a/1\n2/b")
    assert not allows(ours(text, segment), "alice", "/a/1\n2/b")
    assert allows(ours(text, rows), "alice", "/apis/apps.example.com")
    assert allows(ours(text, segment), "alice", "/a/1/b")


def test_c4_what_follows_a_star() -> None:
    """`keyMatch` ignores what stands behind the first star: `/a/*/pods` opens the secrets. Here it is a mistake."""
    text, row = model("keyMatch(r.obj, p.obj)"), ("p", "alice", "/a/*/pods")
    assert theirs(text, row).enforce("alice", "/a/x/secrets")
    with pytest.raises(ConfigurationError, match=r"^policy:1: the pattern '/a/\*/pods' has a \* before its end"):
        ours(text, row)


def test_c4_beginnings_of_regular_expressions() -> None:
    """`regexMatch` is satisfied with a beginning: `/api` opens all below. Here the whole value has to match."""
    text, row = model("regexMatch(r.obj, p.obj)"), ("p", "alice", "/api")
    assert theirs(text, row).enforce("alice", "/api/v1/secrets")
    assert not allows(ours(text, row), "alice", "/api/v1/secrets")
    assert allows(ours(text, row), "alice", "/api")


def test_c4_expressions_that_take_for_ever() -> None:
    """An expression that backtracks keeps the server busy with one request; here it is not loaded."""
    with pytest.raises(ConfigurationError, match=r"^policy:1: .* could keep the server busy with one request"):
        ours(model("regexMatch(r.obj, p.obj)"), ("p", "alice", "/(a+)+$"))


def test_c4_texts_of_matchers_that_are_rewritten() -> None:
    """Matchers are rewritten as text, also within quotes: `"a.p.p"` is compared as `"a.p_p"`. Here it is a mistake."""
    text, row = model('r.sub == "a.p.p"'), ("p", "x", "y")
    assert not theirs(text, row).enforce("a.p.p", "/")
    assert theirs(text, row).enforce("a.p_p", "/")
    with pytest.raises(ConfigurationError, match=r'holds the text "a\.p\.p", parts of which casbin would replace'):
        ours(text, row)


def test_c4_policies_that_are_code() -> None:
    """`eval()` runs what a rule says, as an expression: one row allows everybody. Here only where that is asked for."""
    text, row = model("eval(p.obj)"), ("p", "x", "True or r.sub == 'x'")
    assert theirs(text, row).enforce("anybody", "/secret")
    with pytest.raises(ConfigurationError, match=r"calls eval\(\), which runs the text of policies"):
        ours(text, row)


def test_c4_strangers_are_not_kept() -> None:
    """Every subject and every domain that was asked about stays in casbin's role manager. Here nothing does."""
    text = model("g(r.sub, p.sub, r.dom)", request="sub, dom, obj", g="_, _, _")
    rows = (("p", "role:admin", "/x"), ("g", "alice", "role:admin", "dev"))
    enforcer = theirs(text, *rows)
    manager = enforcer.get_role_manager()
    for number in range(50):
        enforcer.enforce(f"u{number}", f"d{number}", "/x")
    assert len(manager.rm_map) >= 50
    authorizer = ours(text, *rows)
    for number in range(50):
        asked = asks(f"u{number}", "")._replace(is_resource=True, resource="pods", namespace=f"d{number}", path="")
        verdict = authorizer.verdict(asked)
        assert verdict is not None
        assert not verdict.allowed
    snapshot = authorizer._snapshot
    assert snapshot is not None
    assert [(set(graph._roles), set(graph.members())) for graph in snapshot.graphs.values()] == [({"dev"}, {"alice"})]


def test_c4_roles_that_are_too_deep() -> None:
    """Roles more than nine memberships away are not found, silently. Here the policy is refused, and says which."""
    text = model("g(r.sub, p.sub)", g="_, _")
    rows = [("p", "role:10", "/x"), *(("g", f"role:{number}", f"role:{number + 1}") for number in range(10))]
    assert not theirs(text, *rows).enforce("role:0", "/x")
    assert theirs(text, *rows).enforce("role:1", "/x")
    with pytest.raises(ConfigurationError, match=r"role:0 has role:10 only over 10 memberships in a row"):
        ours(text, *rows)


PRIORITIES = """
from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import CasbinAuthorizer
from tests.security.test_policy_cases import model, ours
text = model("r.sub == p.sub", effect="priority(p.eft) || deny", policy="sub, obj, eft")
rows = [("p", "alice", f"/{number}", "deny" if number < 5 else "allow") for number in range(10)]
print(ours(text, *rows).verdict(Attributes(Identity("alice"), "get", False, path="/x")).allowed)
"""


def test_c4_order_of_rules_depends_on_nothing_else() -> None:
    """`FastEnforcer` keeps rules in a set: which comes first depends on the seed of hashes. Here it is the file's."""
    found = []
    for seed in ("0", "1", "2"):
        command = [sys.executable, "-c", PRIORITIES]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(done.stdout.splitlines()[-1])
    assert found == ["False"] * 3


def test_c4_no_decision_between_two_policies(tmp_path: Path) -> None:
    """`load_policy` clears the live roles and fills them again, so that some are denied meanwhile. Here it is swapped.

    Both policies allow alice, by different roles; threads ask all the while that others load.
    """
    path = tmp_path / "policy.csv"
    texts = [f"p2, role:{name}, get, /x\ng, user:alice, role:{name}\n" for name in ("one", "two")]
    path.write_text(texts[0])
    authorizer = CasbinAuthorizer.from_files(path, cache=0)
    over = threading.Event()

    def ask() -> int:
        refused = 0
        while not over.is_set():
            refused += not allows(authorizer, "alice", "/x") or allows(authorizer, "eve", "/x")
        return refused

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for number in range(40):
                path.write_text(texts[number % 2])
                authorizer.reload()
        finally:
            over.set()
        assert [each.result() for each in asking] == [0, 0, 0]


def test_c4_refused_requests_are_not_logged_by_casbin(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """casbin writes each denied request with all its values, as they are. Where we ask casbin, it says nothing."""
    caplog.set_level(logging.DEBUG)
    text = model("r.obj in [x for x in (p.obj, 'y')] && r.sub == p.sub")

    def listen() -> None:
        for name in ("casbin", "casbin.enforcer", "casbin.policy", "casbin.role"):
            monkeypatch.setattr(logging.getLogger(name), "disabled", False)

    enforcer = theirs(text, ("p", "alice", "/x"))
    listen()
    assert not enforcer.enforce("eve\nforged line", "/secret")
    assert any("forged line" in record.getMessage() for record in caplog.records)
    authorizer = ours(text, ("p", "alice", "/x"))
    listen()
    caplog.clear()
    assert not asyncio.run(authorizer.authorize(asks("eve", "/secret"))).allowed
    assert [record for record in caplog.records if record.name.startswith("casbin")] == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("p3", "alice", "/x")], "policy:1: is of type 'p3', which the model does not define; known: g, p"),
        ([("p", "alice")], "policy:1: has 1 column after p, and the model wants 2: sub, obj"),
        ([("g", "alice")], "policy:1: has 1 column after g, and the model wants 2: member, role"),
        (
            [("g", "a", "b"), ("g", "b", "c"), ("g", "c", "a")],
            "policy:3: makes a circle of roles: c → a → b → c",
        ),
        ([("p", "alice", "/[")], "policy:1: the pattern '/[' is no regular expression: unterminated character set at"),
    ],
)
def test_bad_policies_are_refused_with_their_place(rows: list[tuple[str, ...]], message: str) -> None:
    """An unknown type, a wrong number of columns, a circle, a pattern that cannot be compiled: file, line, reason.

    casbin takes the circle, and the others until somebody asks.
    """
    text = model("g(r.sub, p.sub) && regexMatch(r.obj, p.obj)", g="_, _")
    with pytest.raises(ConfigurationError) as caught:
        ours(text, *rows)
    assert str(caught.value).startswith(message)


def test_bad_models_are_refused_with_their_place() -> None:
    """A section that is none, in the file of the model: casbin takes it and never looks at it."""
    text = model("r.sub == p.sub") + "[matcher]\nm = r.sub == p.sub\n"
    assert not theirs(text, ("p", "alice", "/x")).enforce("eve", "/x")
    with pytest.raises(ConfigurationError, match=r"^model:9: unknown section \[matcher\]; known: request_definition"):
        ours(text, ("p", "alice", "/x"))
