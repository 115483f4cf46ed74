"""The log file: lines, rotation, reopening, a full disk, and the end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from aggmw import FrontProxy, Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.audit import Audit, AuditLog, AuditPolicy
from aggmw.middleware.audit.log_file import _File
from aggmw.middleware.authentication import StaticTokens
from aggmw.testing import Client


async def written(log: AuditLog, *events: dict[str, Any]) -> None:
    """Put events and wait until they are in the file."""
    async with Audit(AuditPolicy.everything(), [log]).running():
        for event in events:
            log.put(event)
            assert await log.written()


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_one_object_a_line(tmp_path: Path) -> None:
    """Appended, private, and readable whatever a caller sent: line breaks and half surrogates are escaped."""
    path = tmp_path / "audit.log"
    event = {"a": "b\nc\u2028", "half": "\ud800"}
    await written(AuditLog(path), event)
    await written(AuditLog(path), {"n": 2})
    assert lines(path) == [event, {"n": 2}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("body", [{"a": float("inf")}, {"a": float("nan")}, "too deep"])
async def test_body_that_is_no_json(tmp_path: Path, body: Any) -> None:
    """Every line is JSON, and a body that cannot be keeps none of the events beside it from being written."""
    path = tmp_path / "audit.log"
    if body == "too deep":
        body = []
        for _ in range(100_000):
            body = [body]
    event = {"auditID": "1", "requestObject": body, "annotations": {"a": "b"}}
    await written(AuditLog(path), {"n": 1}, event, {"n": 2})
    while isinstance(body, list) and body:  # let go of it step by step
        body = body.pop()
    first, bare, last = lines(path)
    assert (first, last) == ({"n": 1}, {"n": 2})
    left_out = {"audit.aggmw/requestObject-left-out": "it cannot be written as JSON"}
    assert bare == {"auditID": "1", "annotations": {"a": "b"} | left_out}


async def test_whole_way(tmp_path: Path) -> None:
    """A request through a front proxy is in the file when the lifespan has ended."""
    path = tmp_path / "audit.log"
    proxy = FrontProxy(
        authentication=[StaticTokens({"t": Identity("alice")})],
        audit=Audit(AuditPolicy.everything(), [AuditLog(path)]),
    )
    async with proxy:
        await Client(proxy).request("GET", "/x", {"Authorization": "Bearer t"})
    (event,) = lines(path)
    assert (event["user"]["username"], event["responseStatus"]["code"]) == ("alice", 403)


async def test_rotation_by_size_and_number(tmp_path: Path) -> None:
    """A file that would grow over its size is put aside by the time; only so many of them stay."""
    now = 1_700_000_000.0
    path = tmp_path / "audit.log"
    other = tmp_path / "audit-notes.log"
    other.write_text("somebody else's")
    log = AuditLog(path, max_size=1, max_backups=2, clock=lambda: now)
    for number in range(5):
        now += 1.0
        await written(log, {"n": number, "long": "x" * 700_000})
    aside = sorted(each.name for each in tmp_path.iterdir())
    assert aside == [
        "audit-2023-11-14T22-13-24.000000.log",
        "audit-2023-11-14T22-13-25.000000.log",
        "audit-notes.log",
        "audit.log",
    ]
    assert [line["n"] for each in aside if each != "audit-notes.log" for line in lines(tmp_path / each)] == [2, 3, 4]


async def test_rotation_by_age(tmp_path: Path) -> None:
    """Files put aside longer ago than the age are removed with the next rotation."""
    path = tmp_path / "audit.log"
    old = tmp_path / "audit-2001-01-01T00-00-00.000000.log"
    old.write_text("{}\n")
    os.utime(old, (1.0, 1.0))
    log = AuditLog(path, max_size=1, max_age=7)
    for number in range(2):
        await written(log, {"n": number, "long": "x" * 700_000})
    assert not old.exists()
    assert len(list(tmp_path.iterdir())) == 2


async def test_reopen(tmp_path: Path) -> None:
    """Somebody else moves the file away, and says so or not: what follows is in a new one."""
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    async with Audit(AuditPolicy.everything(), [log]).running():
        for number in (1, 2, 3):
            log.put({"n": number})
            await log.written()
            path.rename(tmp_path / f"moved-{number}.log")
            if number == 2:
                log.reopen()
    assert [lines(tmp_path / f"moved-{number}.log") for number in (1, 2, 3)] == [[{"n": 1}], [{"n": 2}], [{"n": 3}]]
    assert not path.exists()


WRITER = """
import sys
from pathlib import Path
from aggmw.middleware.audit.log_file import _File

file = _File(Path(sys.argv[1]), 20_000, 0.0, 0, __import__("time").time)
print("ready", flush=True)
sys.stdin.readline()
for batch in range(300):
    file.write([b'{"writer":%s,"n":%d}\\n' % (sys.argv[2].encode(), 3 * batch + each) for each in range(3)])
file.close()
"""


def test_several_processes(tmp_path: Path) -> None:
    """Of several processes each may put the file aside: no event is lost, broken or written twice, and each file is
    as large as it may be."""
    path = tmp_path / "audit.log"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for number in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    files = sorted(tmp_path.iterdir())
    found = [event for file in files for event in lines(file)]
    for number in range(3):
        assert [event["n"] for event in found if event["writer"] == number] == list(range(900))
    aside = [file.stat().st_size for file in files if file != path]
    assert all(19_900 < size <= 20_000 for size in aside)
    assert len(aside) == sum(file.stat().st_size for file in files) // 20_000


async def test_lock_that_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who keeps the file locked keeps events from being written, but the process from nothing else."""
    monkeypatch.setattr("aggmw.middleware.audit.log_file._LOCK_SECONDS", 0.05)
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    with path.open("ab") as held, capture_logs() as caught:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="cannot be opened for appending: another process keeps it locked"):
            await asyncio.to_thread(log.check)
        async with Audit(AuditPolicy.everything(), [log]).running():
            log.put({"n": 1})
            assert not await log.written()
            fcntl.flock(held, fcntl.LOCK_UN)
    assert caught[0]["reason"] == f"{path}: another process keeps it locked"
    assert lines(path) == [{"n": 1}]


def test_no_half_line_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a batch leaves the file as it was before."""
    path = tmp_path / "audit.log"
    file = _File(path, 0, 0.0, 0, lambda: 0.0)
    file.write([b'{"n":1}\n'])
    write = os.write
    calls = 0

    def fills(descriptor: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[:3])

    monkeypatch.setattr("aggmw.middleware.audit.log_file.os.write", fills)
    with pytest.raises(OSError, match="No space"):
        file.write([b'{"n":2}\n', b'{"n":3}\n'])
    monkeypatch.undo()
    assert path.read_text() == '{"n":1}\n'
    file.write([b'{"n":2}\n'])
    file.close()
    assert [line["n"] for line in lines(path)] == [1, 2]


async def test_directory_that_is_gone(tmp_path: Path) -> None:
    """What cannot be written is said with the path and the system's word, and nothing of an event."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AuditLog(folder / "audit.log")
    folder.rmdir()
    with capture_logs() as caught:
        async with Audit(AuditPolicy.everything(), [log]).running():
            log.put({"secret": "s3cr3t"})
            assert not await log.written()
    assert caught[0]["reason"] == f"{folder / 'audit.log'}: No such file or directory"
    assert "s3cr3t" not in str(caught)


def test_disk_that_hangs(tmp_path: Path) -> None:
    """A server that was told to stop ends, whatever cannot be written."""
    os.mkfifo(tmp_path / "audit.log")  # opening it ends when somebody reads
    code = """
import asyncio
from pathlib import Path
from aggmw.middleware.audit import Audit, AuditLog, AuditPolicy
async def main():
    log = AuditLog(Path("audit.log"))
    async with Audit(AuditPolicy.everything(), [log]).running():
        log.put({})
        await asyncio.sleep(0.01)
asyncio.run(main())
print("over")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert "audit events are lost" in done.stdout
    assert done.stdout.endswith("over\n")


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """Found when somebody asks, before the first request; neither that nor making the sink leaves a file behind."""
    with pytest.raises(ConfigurationError, match="cannot be opened for appending: No such file or directory"):
        AuditLog(tmp_path / "nowhere" / "audit.log").check()
    with pytest.raises(ConfigurationError, match="Is a directory"):
        AuditLog(tmp_path).check()
    log = AuditLog(tmp_path / "audit.log")
    assert not list(tmp_path.iterdir())
    log.check()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{}\n"])
def test_check_keeps_what_was_there(tmp_path: Path, content: bytes) -> None:
    """A file stays, also an empty one, and so does a link to one that there is not yet."""
    path = tmp_path / "audit.log"
    path.write_bytes(content)
    AuditLog(path).check()
    assert path.read_bytes() == content
    link = tmp_path / "link.log"
    link.symlink_to("later.log")
    AuditLog(link).check()
    assert link.is_symlink()
    assert not link.exists()
