"""Policy files: how they are read, and every mistake in them, word for word."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.work import measured

from aggmw.contracts.authorization import Outcome
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.authorization.casbin.policy import read_rows

GOOD = "p, user:alice, get, core, pods, *, *, allow"


def rows(text: str) -> list[tuple[str, ...]]:
    found, problems = read_rows(text, "policy")
    assert problems == []
    return [(row.ptype, *row) for row in found]


def mistakes(text: str) -> list[str]:
    """The messages that a policy is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_text(text)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "p, a, b",
        "\ufeffp, a, b\n",
        "p,a,b\r\n",
        "\n  # p, x, y\n\t\n p ,\ta , b  \n#end",
        'p, "a", "b" ',
    ],
    ids=["plain", "byte order mark", "CRLF", "comments and white space", "quotes"],
)
def test_same_row(text: str) -> None:
    """A byte order mark, CRLF, comments, blank lines, white space and quotes do not change a row."""
    assert rows(text) == [("p", "a", "b")]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('p, "a, b", c', ("a, b", "c")),
        ('p, "say ""hi""", c', ('say "hi"', "c")),
        ("p, f(a, [b, c]), d", ("f(a, [b, c])", "d")),
        ('p, "a)", ""', ("a)", "")),
        ("p, , a,", ("", "a", "")),
        ('p, "# a", b # c', ("# a", "b # c")),
        ("p, Ä ö, 名前", ("Ä ö", "名前")),
    ],
)
def test_columns(text: str, columns: tuple[str, ...]) -> None:
    """Commas in quotes and in brackets do not separate; an empty column is one; `#` within a line is no comment."""
    assert rows(text) == [("p", *columns)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('p, "a, b', "policy:1: has a quote that is not closed"),
        ('p, "a" b, c', "policy:1: has text after a closing quote: put the whole column in quotes"),
        ('p, a"b', "policy:1: has a quote inside a column: put the whole column in quotes and double the quote"),
        ("p, a)", "policy:1: has a ')' without its opening bracket: put the column in quotes"),
        ("p, (a]", "policy:1: has a ']' without its opening bracket: put the column in quotes"),
        ("p, (a, b", "policy:1: has a '(' that is not closed: put the column in quotes"),
        ("p, \u00a0a, b", "policy:1: has white space around a column that is neither space nor tab: take it out"),
        ("p, (a), b\u3000, c", "policy:1: has white space around a column that is neither space nor tab: take it out"),
        ("\n\np, a\x00b", "policy:3: holds a control character"),
        ("p, a\rp, b", "policy:1: holds a control character"),
        ("p, a\u2028p, b", "policy:1: holds a control character"),
        ("q, a", "policy:1: is of type 'q', which the model does not define; known: g, p, p2"),
        (
            "p, user:a, get, pods",
            "policy:1: has 3 columns after p, and the model wants 6 or 7:"
            " subject, verb, apiGroup, resource, namespace, name, eft",
        ),
        ("g, user:a", "policy:1: has 1 column after g, and the model wants 2: member, role"),
        (
            "p, alice, get, core, pods, *, *",
            "policy:1: has 'alice' as the subject: write user:NAME, group:NAME or role:NAME",
        ),
        (
            "p, user:, get, core, pods, *, *",
            "policy:1: has 'user:' as the subject: write user:NAME, group:NAME or role:NAME",
        ),
        (
            "p, user:a, GET, core, pods, *, *",
            "policy:1: has verb 'GET': verbs are written in lower case, like get|list|watch",
        ),
        (
            "p, user:a, get list, core, pods, *, *",
            "policy:1: has verb 'get list': verbs are written in lower case, like get|list|watch",
        ),
        (
            'p, user:a, get, "", pods, *, *',
            "policy:1: has apiGroup '': write core for the core group, or * for every group",
        ),
        (
            "p, user:a, get, *.example.com, pods, *, *",
            "policy:1: has apiGroup '*.example.com': write core for the core group, or * for every group",
        ),
        (
            "p, user:a, get, core, pods/*, *, *",
            "policy:1: has resource 'pods/*': write flunders, flunders/status, */status or *",
        ),
        (
            "p, user:a, get, core, pods|, *, *",
            "policy:1: has resource 'pods|': write flunders, flunders/status, */status or *",
        ),
        (
            "p, user:a, get, core, pods, dev-*, *",
            "policy:1: has namespace 'dev-*': write a name (lower case letters, digits and -),"
            " or * for all namespaces and the cluster scope",
        ),
        (
            "p, user:a, get, core, pods, , *",
            "policy:1: has namespace '': write a name (lower case letters, digits and -),"
            " or * for all namespaces and the cluster scope",
        ),
        (
            "p, user:a, get, core, pods, *, a*",
            "policy:1: has name 'a*': write a name without / and *, or * for every name and for none",
        ),
        ("p, user:a, get, core, pods, *, *, permit", "policy:1: has effect 'permit': write allow or deny"),
        ("p2, user:a, get, healthz", "policy:1: has path 'healthz': write /path, /beginning* or *"),
        ("p2, user:a, get, /a/*/b", "policy:1: has path '/a/*/b': write /path, /beginning* or *"),
        ("g, alice, role:x", "policy:1: has 'alice' as the member: write user:NAME, group:NAME or role:NAME"),
        ("g, user:alice, editor", "policy:1: grants 'editor', which is no role: write role:NAME"),
        (
            "g, role:a, role:b\ng, role:b, role:c\ng, role:c, role:a",
            "policy:3: makes a circle of roles: role:c → role:a → role:b → role:c",
        ),
        ("g, role:a, role:a", "policy:1: makes a circle of roles: role:a → role:a"),
        (
            "\n".join(f"g, role:{number}, role:{number + 1}" for number in range(10)),
            "policy:1: role:0 has role:10 only over 10 memberships in a row; casbin follows 9",
        ),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    """One line a mistake, with file and line, and what to write instead."""
    assert mistakes(text) == [message]


def test_all_mistakes_at_once() -> None:
    """Nothing is reported one at a time; the lines come in order."""
    text = f'{GOOD}\nx, a\np, "\ng, a, b\n{GOOD}\nq, a\n'
    assert mistakes(text) == [
        "policy:2: is of type 'x', which the model does not define; known: g, p, p2",
        "policy:3: has a quote that is not closed",
        "policy:4: has 'a' as the member: write user:NAME, group:NAME or role:NAME",
        "policy:4: grants 'b', which is no role: write role:NAME",
        "policy:6: is of type 'q', which the model does not define; known: g, p, p2",
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), unique=True, max_size=20))
def test_circles(grants: list[tuple[int, int]]) -> None:
    """Of memberships that go in circles, the rows are named that close one, in the order of the file."""
    closing: list[str] = []
    has: dict[int, set[int]] = {role: {role} for role in range(8)}  # who has which role, over any number of steps
    for number, (member, role) in enumerate(grants, 1):
        if member in has[role]:
            closing.append(f"policy:{number}")
            continue
        for one in has.values():
            if member in one:
                one |= has[role]
    text = "\n".join(f"g, role:{member}, role:{role}" for member, role in grants)
    found = [line for line in mistakes(text) if "makes a circle" in line] if closing else []
    assert [line.partition(": ")[0] for line in found] == closing
    if not closing:
        CasbinAuthorizer.from_text(text)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("end", ["role:5000", "role:0"])
def test_long_ways_of_roles(end: str, backwards: bool) -> None:
    """Thousands of roles in a row, or in a circle, are refused in a moment."""
    steps = [f"g, role:{number}, role:{number + 1}" for number in range(4999)] + [f"g, role:4999, {end}"]
    with measured() as work:
        found = mistakes("\n".join(reversed(steps) if backwards else steps))
    assert work.seconds < 2  # usually less than 0.1; looking at all roles for each role takes 4
    assert any("role:0 has role:10 only over 10 memberships" in line for line in found)


def test_nine_memberships_in_a_row_are_fine(outcome: Callable[..., Outcome]) -> None:
    """As deep as casbin itself follows."""
    text = "\n".join(f"g, role:{number}, role:{number + 1}" for number in range(8))
    authorizer = CasbinAuthorizer.from_text(f"g, user:a, role:0\n{text}\np, role:8, *, *, *, *, *\n")
    assert outcome(authorizer, "a", "get", "pods") is Outcome.ALLOW


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (f"{GOOD}\n{GOOD}", "policy:2: repeats policy:1"),
        (f"{GOOD}\np, user:alice, get, core, pods, *, *", "policy:2: repeats policy:1"),
        (
            "p, user:a, gett, core, pods, *, *",
            "policy:1: names the verb 'gett', which no request for a resource has",
        ),
        ("p2, user:a, list, /a", "policy:1: names the verb 'list', which no request for a path has"),
        (
            "p, user:a, get|list, core, pods|pods/log, *, p1, deny",
            "policy:1: denies a name, which does not stop list, watch and deletecollection of the whole collection",
        ),
        (
            "p, user:a, *, core, */status|pods, dev, *, deny",
            "policy:1: denies a namespace, which does not stop list and watch over all namespaces at once",
        ),
        (
            "p, user:a, get, core, secrets, *, *, deny",
            "policy:1: denies secrets, which does not stop its subresources: name those it has too,"
            " like secrets|secrets/status",
        ),
        (
            "p, user:*, get, core, pods, *, *",
            "policy:1: is about the one user called '*': there are no patterns in subjects;"
            " for everybody write group:system:authenticated",
        ),
        (
            "p2, group:dev*, get, /a",
            "policy:1: is about the one group called 'dev*': there are no patterns in subjects",
        ),
        (
            "p, role:r, get, core, pods, *, *\ng, user:a|b, role:r",
            "policy:2: is about the one user called 'a|b': there are no patterns in subjects",
        ),
        (
            "p2, user:a, get, /x # look",
            "policy:1: holds ' #': a comment stands on a line of its own, this is part of the column",
        ),
        ("g, user:a, role:edtior", "policy:1: grants role:edtior, for which there is no rule"),
        ("p, role:editor, get, core, pods, *, *", "policy:1: is about role:editor, which is granted to nobody"),
    ],
)
def test_warnings(text: str, warning: str, logs: list[dict[str, Any]]) -> None:
    """What is probably a slip is loaded, told in the log, and kept for whoever asks."""
    authorizer = CasbinAuthorizer.from_text(text)
    assert [str(one) for one in authorizer.warnings] == [warning]
    path, _, problem = warning.partition(": ")
    expected = {"event": "questionable policy", "log_level": "warning", "path": path, "problem": problem}
    assert expected in logs


def test_good_policy_has_no_warnings() -> None:
    """A denying rule for one name and one verb, custom verbs and inheritance are nothing to warn of."""
    text = (
        f"{GOOD}\np, user:a, delete, core, pods|pods/status, dev, p1, deny\np, user:a, get, *, *, *, *, deny\n"
        "p, role:r, impersonate:user, core, users, *, bob\n"
        "g, role:s, role:r\ng, user:a, role:s\n"
    )
    assert CasbinAuthorizer.from_text(text).warnings == ()


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a mistake like the others."""
    path = tmp_path / "policy.csv"
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_files(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


def test_pipe(tmp_path: Path) -> None:
    """A pipe is read once. Nobody would write again: waiting for it would keep every policy from being read again."""
    path = tmp_path / "policy.csv"
    os.mkfifo(path)
    writing = threading.Thread(target=path.write_text, args=(GOOD,))
    writing.start()
    authorizer = CasbinAuthorizer.from_files(path)
    writing.join()
    revision = authorizer.revision
    with pytest.raises(ConfigurationError) as caught:
        authorizer.reload()
    assert str(caught.value) == f"{path}: is a pipe, which cannot be read again: put a file there"
    path.unlink()
    path.write_text(GOOD)
    authorizer.reload()
    assert authorizer.revision == revision


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    """What cannot be read says why."""
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_files(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_endless_file(tmp_path: Path) -> None:
    """No more than 64 MiB are read, so that no file takes all the memory."""
    path = tmp_path / "policy.csv"
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_files(path)
    assert str(caught.value) == f"{path}: is larger than 64 MiB, the most that is read"
    path.unlink()
    path.write_text(f"{GOOD}\n")
    with path.open("a") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(ConfigurationError, match="is larger than 64 MiB"):
        CasbinAuthorizer.from_files(path)


def test_hundred_thousand_rules(tmp_path: Path, outcome: Callable[..., Outcome]) -> None:
    """A policy of 100,000 long rules is far from the limit."""
    path = tmp_path / "policy.csv"
    rule = "p, group:a-group-with-a-rather-long-name-{0}, get, core, pods|pods/log|pods/status, namespace-{0}, *\n"
    path.write_text("".join(map(rule.format, range(100_000))))
    authorizer = CasbinAuthorizer.from_files(path)
    last = ("a-group-with-a-rather-long-name-99999",)
    assert outcome(authorizer, "x", "get", "pods", group="", namespace="namespace-99999", groups=last) is Outcome.ALLOW


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_not_utf8(tmp_path: Path, mark: bytes) -> None:
    """The line that is not UTF-8 is named."""
    path = tmp_path / "policy.csv"
    path.write_bytes(mark + GOOD.encode() + b"\n" + b"p, user:\xff, get")
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_files(path)
    assert str(caught.value) == f"{path}:2: is not UTF-8 text"


def test_both_files_are_looked_through(tmp_path: Path) -> None:
    """A model that cannot be read does not hide a policy that cannot be read."""
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_files(tmp_path / "policy.csv", model=tmp_path / "model.conf")
    assert len(caught.value.problems) == 2


def test_model_from_a_file(tmp_path: Path, outcome: Callable[..., Outcome]) -> None:
    """A model and a policy of one's own are two files; messages name the one that is wrong."""
    policy, model = tmp_path / "policy.csv", tmp_path / "model.conf"
    policy.write_text("p, alice, /x\n", encoding="utf-8")
    text = (
        "[request_definition]\nr = sub, obj\n[policy_definition]\np = sub, obj\n"
        "[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = r.sub == p.sub && r.obj == p.obj\n"
    )
    model.write_text(text, encoding="utf-8")
    authorizer = CasbinAuthorizer.from_files(policy, model=model)
    assert outcome(authorizer, "alice", "get", "/x") is Outcome.ALLOW
    model.write_text(text.replace("p.sub &&", "p.colour &&"), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        authorizer.reload()
    assert str(caught.value) == (
        f"{model}:8: [matchers] names field 'p.colour', which [policy_definition] does not define; known: p.sub, p.obj"
    )
    assert outcome(authorizer, "alice", "get", "/x") is Outcome.ALLOW


def test_reload_swaps_or_keeps(tmp_path: Path, outcome: Callable[..., Outcome]) -> None:
    """A good file takes over at once, cached verdicts included; a broken one changes nothing and says why."""
    path = tmp_path / "policy.csv"
    path.write_text(GOOD, encoding="utf-8")
    authorizer = CasbinAuthorizer.from_files(path)
    for _ in range(2):
        assert outcome(authorizer, "alice", "get", "pods", group="") is Outcome.ALLOW
        assert outcome(authorizer, "bob", "get", "pods", group="") is Outcome.NO_OPINION
    path.write_text(GOOD.replace("alice", "bob"), encoding="utf-8")
    authorizer.reload()
    assert outcome(authorizer, "alice", "get", "pods", group="") is Outcome.NO_OPINION
    assert outcome(authorizer, "bob", "get", "pods", group="") is Outcome.ALLOW
    path.write_text("nonsense", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is of type 'nonsense'"):
        authorizer.reload()
    assert outcome(authorizer, "bob", "get", "pods", group="") is Outcome.ALLOW


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """No input makes the reader fail in another way than with a Problem a line."""
    found, problems = read_rows(text, "policy")
    assert len(found) + len(problems) <= text.count("\n") + 1
    for row in found:
        assert not any("\n" in column or "\x00" in column for column in (row.ptype, *row))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff")), min_size=1
    )
)
def test_quoted_columns_come_back(columns: list[str]) -> None:
    """Every text without control characters can be written as a column."""
    line = ", ".join('"' + column.replace('"', '""') + '"' for column in ("p", *columns))
    assert rows(line) == [("p", *columns)]
