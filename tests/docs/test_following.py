"""The runner of tutorials: what it accepts, and that it fails where a page lies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.docs import following
from tests.docs.following import Mismatch, agrees, follow
from tests.docs.pages import Block


def transcript(text: str) -> Block:
    return Block("page.md", 1, "console", "", text)


def file(title: str, text: str) -> Block:
    return Block("page.md", 1, "text", title, text)


def test_files_and_commands_in_the_order_of_the_page(tmp_path: Path) -> None:
    """A later block of the same title replaces the file; one shell keeps its variables and its directory."""
    page = [
        file("inner/greeting.txt", "hello\n"),
        transcript("$ cd inner\n$ NAME=world\n$ cat greeting.txt\nhello\n"),
        file("inner/greeting.txt", "goodbye\n"),
        transcript('$ echo "$(cat greeting.txt) $NAME"\ngoodbye world\n'),
    ]
    follow(page, tmp_path)


def test_continued_command(tmp_path: Path) -> None:
    """Lines with `> ` belong to the command in front of them when that ends in a backslash; else they are output."""
    follow([transcript("$ echo one \\\n>   two\none two\n$ echo '> three'\n> three\n")], tmp_path)


@pytest.mark.parametrize(
    "page",
    ["$ echo one\ntwo\n", "$ echo one\n", "$ true\none\n", "$ echo one\none\ntwo\n", "$ false\n"],
    ids=["other", "not shown", "not printed", "too much shown", "fails in silence"],
)
def test_a_page_that_lies(page: str, tmp_path: Path) -> None:
    """What is printed has to be all that the page shows, and a command that fails has to say so."""
    with pytest.raises(Mismatch, match=r"page\.md:2"):
        follow([transcript(page)], tmp_path)


def test_a_command_may_fail_in_words(tmp_path: Path) -> None:
    """Pages show refusals, too."""
    follow([transcript("$ cat nothing\ncat: nothing: No such file or directory\n")], tmp_path)


def test_a_server_that_does_not_say_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that a page shows below a server has to come."""
    monkeypatch.setattr(following, "_SECONDS", 0.2)
    with pytest.raises(Mismatch, match="ready"):
        follow([transcript("$ { echo starting; sleep 60; } &\nready\n")], tmp_path)


def test_servers_are_stopped_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a page is left running, also what does not listen to SIGTERM."""
    servers = "$ { echo $BASHPID > one; echo ready; exec sleep 60; } &\nready\n"
    servers += "$ { trap '' TERM; echo $BASHPID > two; echo ready; exec sleep 60; } &\nready\n"
    monkeypatch.setattr(following, "_STOP_SECONDS", 0.2)
    follow([transcript(servers)], tmp_path)
    for name in ("one", "two"):
        stat = Path("/proc", (tmp_path / name).read_text().strip(), "stat")
        until = time.monotonic() + 10  # a process that was killed takes a moment to end
        while _runs(stat) and time.monotonic() < until:
            time.sleep(0.01)
        assert not _runs(stat)


def _runs(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_kill_waits(tmp_path: Path) -> None:
    """After `kill %1` the server is gone."""
    page = "$ { trap 'sleep 0.1; echo ended > note; exit' TERM; echo ready; while :; do sleep 0.02; done; } &\nready\n"
    follow([transcript(f"{page}$ kill %1\n$ cat note\nended\n")], tmp_path)


def test_ports_are_free_ones(tmp_path: Path) -> None:
    """Files and commands get other ports than the page shows, what is printed gets those of the page."""
    page = [file("port", "8000\n"), transcript("$ cat port; echo http://127.0.0.1:6443/ > url\n8000\n")]
    follow(page, tmp_path)
    assert (tmp_path / "port").read_text() != "8000\n"
    assert (tmp_path / "url").read_text() != "http://127.0.0.1:6443/\n"


def test_set_up_is_not_done(tmp_path: Path) -> None:
    """The tests' own environment takes the place of the reader's; `AGGMW` is this checkout."""
    page = "$ export AGGMW=~/aggmw\n$ python3 -m venv .venv\n$ . .venv/bin/activate\n$ pip install '$AGGMW[all]'\n"
    follow([transcript(page + '$ ls "$AGGMW/pyproject.toml" | wc -l\n1\n')], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("one    True   3s", "one    True   2m14s"),
        ("process [4711]", "process [1]"),
        ("2026-01-01T00:00:00Z", "2031-12-24T08:09:10.123456Z"),
        ("12:00:00 [info ] up", "\x1b[2m08:09:10\x1b[0m [\x1b[32minfo \x1b[0m] up"),
        ("uid: 00000000-0000-0000-0000-000000000000", "uid: 8ad0c4c1-2b45-4f53-9e0a-5f3f1c2b9a77"),
        ("a … z", "a b c z"),
        ("first\n…\nlast", "first\nlast"),
        ("first\n…\nlast", "first\n2\n3\nlast"),
    ],
)
def test_what_need_not_be_the_same(shown: str, printed: str) -> None:
    """Ages, process numbers, times, colours and UUIDs; and whatever stands for an ellipsis."""
    assert agrees(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("one 3s two", "one 4s two"), ("a…z", "a\nz"), ("", "one"), ("a.c", "abc"), ("first\n…", "other\nfirst")],
)
def test_what_has_to_be_the_same(shown: str, printed: str) -> None:
    """Everything else."""
    assert not agrees(shown, printed)
