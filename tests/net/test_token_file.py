"""A token in a file that somebody else replaces."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.net.reading import read_through

from aggmw.net.token_file import TokenFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def test_replaced(path: Path) -> None:
    """It is read at first use, and again after ten seconds."""
    file = TokenFile(path)
    assert file.value(100.0) == b"first"
    path.write_text("second")
    assert file.value(109.9) == b"first"
    file.value(110.0)
    read_through(path)
    assert file.value(110.1) == b"second"


@pytest.mark.parametrize("content", [None, "", "two words", "caf\u00e9"])
def test_last_good_one_is_kept(path: Path, content: str | None) -> None:
    """A file that is away, or holds something else, takes nothing away; the next good one counts."""
    file = TokenFile(path)
    assert file.value(0.0) == b"first"
    if content is None:
        path.unlink()
    else:
        path.write_text(content, "utf-8")
    file.value(10.0)
    read_through(path)
    assert file.value(10.1) == b"first"
    path.write_text("third")
    file.value(20.0)
    read_through(path)
    assert file.value(20.1) == b"third"


def test_none_yet(path: Path) -> None:
    """Before there was one, each look is a reading: nothing else would do."""
    path.unlink()
    file = TokenFile(path)
    assert file.value(0.0) == b""
    path.write_text("first")
    assert file.value(9.0) == b""
    assert file.value(10.0) == b"first"


def test_slow_disk(path: Path) -> None:
    """A disk that does not answer holds up nobody, and is not asked again before it has."""
    file = TokenFile(path)
    assert file.value(0.0) == b"first"
    path.unlink()
    os.mkfifo(path)  # reading it ends when somebody has written
    for now in (10.0, 20.0, 30.0):
        assert file.value(now) == b"first"
    assert [each.name for each in threading.enumerate()].count(f"token file {path}") == 1
    path.write_text("second")
    read_through(path)
    assert file.value(31.0) == b"second"


def test_not_asked_for_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read long ago may have ended since: the first who asks again has the present one."""
    monkeypatch.setattr("aggmw.net.token_file._WAIT_SECONDS", 30.0)
    file = TokenFile(path)
    assert file.value(0.0) == b"first"
    path.write_text("second")
    assert file.value(60.0) == b"second"


def test_not_asked_for_long_and_a_slow_disk(path: Path) -> None:
    """Then a disk that does not answer holds up the first one for a moment only."""
    file = TokenFile(path)
    assert file.value(0.0) == b"first"
    path.unlink()
    os.mkfifo(path)
    assert file.value(100.0) == file.value(200.0) == b"first"
    path.write_text("second")
    read_through(path)
    assert file.value(200.1) == b"second"


def test_no_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine gives no thread, what there was will do, and it is tried again."""

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    file = TokenFile(path)
    assert file.value(0.0) == b"first"
    path.write_text("second")
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(threading.Thread, "start", none)
        assert file.value(10.0) == b"first"
    assert [log["reason"] for log in logs] == ["can't start new thread"]
    file.value(20.0)
    read_through(path)
    assert file.value(20.1) == b"second"
