"""Files that are read again when they changed: what counts as a change, and when it is read."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization import CasbinAuthorizer, ConfiguredAuthorizers, RbacAuthorizer
from aggmw.middleware.authorization.watching import FileWatcher, FirstLoad, Follower


class Reader:
    """Reads a file when it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: list[str] = []

    async def __call__(self) -> str:
        try:
            self.read.append(self.path.read_text())
        except OSError as error:
            raise ConfigurationError([Problem(self.path.name, "cannot be read")]) from error
        return f"revision of {self.read[-1]}"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.csv"
    path.write_text("old")
    later = tmp_path.with_suffix(".later")  # what is written within one tick of the kernel's clock has one time
    while not later.exists() or later.stat().st_ctime_ns == path.stat().st_ctime_ns:
        later.write_text("")
    return path


async def looks(watcher: FileWatcher, number: int = 2) -> None:
    for _ in range(number):
        await watcher.look()


def in_place(path: Path) -> None:
    path.write_text("new")


def renamed(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("new")
    os.replace(other, path)


def same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_text("new")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [in_place, renamed, same_size_and_time])
async def test_change_is_read_once(policy: Path, change: Callable[[Path], None]) -> None:
    """What is written in place or renamed over it is read, once, also when size and time are the old ones."""
    reader = Reader(policy)
    watcher = FileWatcher([policy], reader, what="policy")
    await looks(watcher, 3)
    assert reader.read == []
    change(policy)
    with capture_logs() as logs:
        await looks(watcher, 5)
    assert reader.read == ["new"]
    assert [(log["event"], log["what"], log["revision"]) for log in logs] == [("reloaded", "policy", "revision of new")]


async def test_swapped_link(tmp_path: Path) -> None:
    """A mounted ConfigMap: the link to the directory of the files is replaced, the path stays what it was."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.csv").write_text(name)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "policy.csv").symlink_to("..data/policy.csv")
    reader = Reader(tmp_path / "policy.csv")
    watcher = FileWatcher([reader.path], reader, what="policy")
    (tmp_path / "..tmp").symlink_to("two")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")
    await looks(watcher)
    assert reader.read == ["two"]


async def test_written_twice(policy: Path) -> None:
    """While a file keeps changing it is not read: not between an editor's two writes."""
    reader = Reader(policy)
    watcher = FileWatcher([policy], reader, what="policy")
    for text in ("", "n", "ne", "new"):
        policy.write_text(text)
        await watcher.look()
    assert reader.read == []
    await watcher.look()
    assert reader.read == ["new"]


async def test_change_while_it_is_read(policy: Path) -> None:
    """What changes during the reading is read again: it may have come too late for that."""
    reader = Reader(policy)

    async def meanwhile() -> str:
        revision = await reader()
        if len(reader.read) == 1:
            policy.write_text("newer")
        return revision

    watcher = FileWatcher([policy], meanwhile, what="policy")
    policy.write_text("new")
    await looks(watcher, 4)
    assert reader.read == ["new", "newer"]


async def test_gone_for_a_moment(policy: Path) -> None:
    """A file that is away and comes back is read when it is back; meanwhile nothing is said."""
    reader = Reader(policy)
    watcher = FileWatcher([policy], reader, what="policy", patience=5)
    policy.unlink()
    with capture_logs() as logs:
        await looks(watcher, 4)
        policy.write_text("new")
        await looks(watcher, 2)
    assert reader.read == ["new"]
    assert [log["event"] for log in logs] == ["reloaded"]


async def test_gone_for_long(policy: Path) -> None:
    """A file that stays away is a mistake, told once, and read when it comes at last."""
    reader = Reader(policy)
    watcher = FileWatcher([policy], reader, what="policy", patience=3)
    policy.unlink()
    with capture_logs() as logs:
        await looks(watcher, 10)
    assert [(log["event"], log["log_level"], log["path"]) for log in logs] == [("not reloaded", "error", "policy.csv")]
    policy.write_text("new")
    await looks(watcher, 2)
    assert reader.read == ["new"]


async def test_mistakes_are_told_and_what_follows_is_read(policy: Path) -> None:
    """Every mistake is one line of the log; the next change is read as if nothing had been."""
    problems: list[Problem] = [Problem(f"policy.csv:{number}", "is wrong") for number in range(120)]

    async def read() -> str:
        if policy.read_text() == "bad":
            raise ConfigurationError(problems)
        return "r"

    watcher = FileWatcher([policy], read, what="policy")
    policy.write_text("bad")
    with capture_logs() as logs:
        await looks(watcher, 5)
        assert [log["path"] for log in logs] == [problem.path for problem in problems]
        policy.write_text("good")
        await looks(watcher, 2)
    assert logs[-1]["event"] == "reloaded"


async def test_what_was_changed_before_it_ran(policy: Path) -> None:
    """Between the first reading and the start of the background work nothing is missed."""
    reader = Reader(policy)
    watcher = FileWatcher([policy], reader, what="policy")
    policy.write_text("new")
    await looks(watcher, 2)
    assert reader.read == ["new"]


async def test_directories(tmp_path: Path) -> None:
    """Of a directory, files that come, go and change count."""
    reader = Reader(tmp_path / "d" / "one.yaml")
    reader.path.parent.mkdir()
    reader.path.write_text("1")
    watcher = FileWatcher([tmp_path / "d"], reader, what="roles")
    for change in (
        lambda: (tmp_path / "d" / "two.yaml").write_text("2"),
        lambda: reader.path.write_text("3"),
        lambda: (tmp_path / "d" / "two.yaml").unlink(),
    ):
        change()
        await looks(watcher, 3)
    assert reader.read == ["1", "3", "3"]


async def test_link_that_leads_nowhere(tmp_path: Path) -> None:
    """An editor's lock in a directory is a link that leads nowhere: what is changed beside it counts all the same."""
    reader = Reader(tmp_path / "d" / "one.yaml")
    reader.path.parent.mkdir()
    reader.path.write_text("1")
    watcher = FileWatcher([tmp_path / "d"], reader, what="roles")
    (tmp_path / "d" / ".#one.yaml").symlink_to("somebody@somewhere.17")
    await looks(watcher, 2)
    reader.path.write_text("2")
    await looks(watcher, 2)
    assert reader.read == ["1", "2"]


async def test_fault_in_reading(policy: Path) -> None:
    """Where reading fails for another reason than mistakes, it is done again when the controller is begun again."""
    reader = Reader(policy)
    faults = [RuntimeError("can't start new thread")]

    async def read() -> str:
        if faults:
            raise faults.pop()
        return await reader()

    watcher = FileWatcher([policy], read, what="policy")
    policy.write_text("new")
    with pytest.raises(RuntimeError):
        await looks(watcher)
    await looks(watcher, 1)
    assert reader.read == ["new"]


async def test_disk_that_failed_once(policy: Path) -> None:
    """What could not be read for a reason that passes is read again untouched, ever more rarely; the log says when."""
    reader = Reader(policy)
    failures = [OSError(errno.EIO, "Input/output error")] * 7
    passes: list[int] = []

    async def read() -> str:
        passes.append(number)
        if failures:
            raise ConfigurationError([Problem.unreadable(policy, failures.pop())])
        return await reader()

    watcher = FileWatcher([policy], read, what="policy", every=0.5)
    policy.write_text("new")
    with capture_logs() as logs:
        for number in range(1000):  # noqa: B007  which look it is, for `read`
            await watcher.look()
    assert reader.read == ["new"]
    assert [after - before for before, after in pairwise(passes)] == [2, 4, 8, 16, 32, 60, 60]
    said = [log["seconds"] for log in logs if log["event"] == "will be read again"]
    assert said == [1, 2, 4, 8, 16, 30, 30]


async def test_fault_after_a_disk_that_failed(policy: Path) -> None:
    """Where the reading after a pause fails for another reason, it is done again, too."""
    reader = Reader(policy)
    failures: list[Exception] = [
        RuntimeError("can't start new thread"),
        ConfigurationError([Problem.unreadable(policy, OSError(errno.EIO, "Input/output error"))]),
    ]

    async def read() -> str:
        if failures:
            raise failures.pop()
        return await reader()

    watcher = FileWatcher([policy], read, what="policy", every=0.5)
    policy.write_text("new")
    with pytest.raises(RuntimeError):
        await looks(watcher, 5)
    await looks(watcher, 1)
    assert reader.read == ["new"]
    await looks(watcher, 10)
    assert reader.read == ["new"]


async def test_file_that_fails_and_is_changed(policy: Path) -> None:
    """A change is not kept waiting by the pause before another reading; what is no file is not read again."""
    reader = Reader(policy)
    failures = [OSError(errno.EIO, "Input/output error")]

    async def read() -> str:
        if failures:
            raise ConfigurationError([Problem.unreadable(policy, failures.pop())])
        return await reader()

    watcher = FileWatcher([policy], read, what="policy", every=0.25)
    policy.write_text("new")
    await looks(watcher)
    policy.write_text("newer")
    await looks(watcher, 2)
    assert reader.read == ["newer"]
    await looks(watcher, 10)
    failures = [IsADirectoryError(errno.EISDIR, "Is a directory")]
    policy.write_text("newest")
    await looks(watcher, 200)
    assert (reader.read, failures) == (["newer"], [])


CONFIGURATION = """\
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers: [{type: AlwaysDeny, name: last}]
"""


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (partial(CasbinAuthorizer.from_files, watch=True), ""),
        (partial(RbacAuthorizer.from_files, watch=True), ""),
        (partial(ConfiguredAuthorizers, watch=True), CONFIGURATION),
    ],
    ids=["casbin", "rbac", "configuration"],
)
async def test_every_policy_tells_what_may_pass(tmp_path: Path, made: Callable[[Path], Any], text: str) -> None:
    """Whoever reads a file says that it could not be read for a reason that may pass: here, a link to itself."""
    path = tmp_path / "policy"
    path.write_text(text)
    [watcher] = made(path).controllers
    path.unlink()
    path.symlink_to("policy")
    with capture_logs() as logs:
        await looks(watcher, 3)
    assert [log["event"] for log in logs][-2:] == ["not reloaded", "will be read again"]


async def test_it_runs(policy: Path) -> None:
    """As a controller it looks by itself, until it is cancelled."""
    reader = Reader(policy)
    told = asyncio.Event()

    async def read() -> str:
        told.set()
        return await reader()

    watcher = FileWatcher([policy], read, what="policy", every=0.001)
    task = asyncio.create_task(watcher.run())
    policy.write_text("new")
    async with asyncio.timeout(60):
        await told.wait()
    task.cancel()
    await asyncio.wait({task})
    assert reader.read == ["new"]


class InMemory:
    """A `PolicyWatcher` for one process."""

    def __init__(self) -> None:
        self.listening: list[asyncio.Queue[None]] = []

    async def changes(self) -> AsyncIterator[None]:
        queue: asyncio.Queue[None] = asyncio.Queue()
        self.listening.append(queue)
        yield None
        while True:
            yield await queue.get()

    async def announce(self) -> None:
        for queue in self.listening:
            queue.put_nowait(None)


async def test_follower_reads_when_it_listens_and_when_it_is_told(policy: Path) -> None:
    """What was changed before anybody listened is read, too."""
    reader, watcher = Reader(policy), InMemory()
    told: asyncio.Queue[None] = asyncio.Queue()

    async def read() -> str:
        revision = await reader()
        told.put_nowait(None)
        return revision

    task = asyncio.create_task(Follower(watcher, read, what="policy").run())
    async with asyncio.timeout(60):
        await told.get()
        policy.write_text("new")
        await watcher.announce()
        await told.get()
    task.cancel()
    await asyncio.wait({task})
    assert reader.read == ["old", "new"]


async def test_follower_tries_again(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says a second time that a policy was changed: what could not be read then is tried again."""
    monkeypatch.setattr("aggmw.middleware.authorization.watching._FIRST_PAUSE", 0.001)
    watcher = InMemory()
    read = asyncio.Event()
    errors: list[Exception] = [RuntimeError(), ConfigurationError([Problem("database", "does not answer")])]

    async def load() -> str:
        if errors:
            raise errors.pop()
        read.set()
        return "r"

    with capture_logs() as logs:
        task = asyncio.create_task(Follower(watcher, load, what="policy").run())
        async with asyncio.timeout(60):
            await read.wait()
        task.cancel()
        await asyncio.wait({task})
    assert [log["event"] for log in logs] == ["not reloaded", "not reloaded", "reloaded"]
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_first_load_does_not_give_up(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is not there yet is asked again, ever more rarely, until there is a policy."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("aggmw.middleware.authorization.watching.asyncio.sleep", sleep)
    left = 8

    async def load() -> str:
        nonlocal left
        left -= 1
        if left:
            raise ConfigurationError([Problem("adapter", "cannot be loaded")])
        return "r"

    with capture_logs() as logs:
        await FirstLoad(lambda: False, load, what="policy").run()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert [log["event"] for log in logs] == ["not reloaded"] * 7 + ["reloaded"]
    await FirstLoad(lambda: True, load, what="policy").run()
    assert left == 0
