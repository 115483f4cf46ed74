"""The fixtures as a user's tests see them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
pytest_plugins = ["aggmw.testing.plugin"]

@pytest.fixture(autouse=True)
def _hygiene(hygiene):
    pass
"""

TESTS = """
import asyncio
import socket

import pytest

kept = []

@pytest.fixture
async def tidy():
    task = asyncio.create_task(asyncio.sleep(60))
    yield
    task.cancel()

async def test_passes(tidy, clock):
    waiting = asyncio.create_task(asyncio.sleep(3600))
    await clock.advance(3600)
    assert waiting.done()

def test_sync_passes():
    pass

async def test_task_left():
    kept.append(asyncio.create_task(asyncio.sleep(60)))

async def test_socket_left():
    kept.append(socket.socket())

def test_sync_socket_left():
    kept.append(socket.socket())

async def test_exception_left():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)

@pytest.mark.allows("sockets", "tasks")
async def test_allowed():
    kept.append(socket.socket())
    kept.append(asyncio.create_task(asyncio.sleep(60)))

async def test_allowed_inside(hygiene):
    hygiene.allow("tasks")
    kept.append(asyncio.create_task(asyncio.sleep(60)))

def teardown_module():
    for each in kept:
        if isinstance(each, socket.socket):
            each.close()
"""


def test_hygiene_and_clock(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test that leaves something is an error that names it; the others, and the exempted, pass."""
    monkeypatch.setattr("aggmw.testing.hygiene._PAUSES", [0.001] * 10)
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", "--strict-markers", "-rE")
    result.assert_outcomes(passed=8, errors=4)
    result.stdout.fnmatch_lines_random(
        [
            "*ERROR at teardown of test_task_left*",
            "*ERROR at teardown of test_socket_left*",
            "*ERROR at teardown of test_sync_socket_left*",
            "*ERROR at teardown of test_exception_left*",
            "a task was left running: *",
            "a socket was left open: *",
            "reported to the event loop: Exception in callback *",
        ]
    )


SUITE = """
from aggmw.testing.transports import TransportSuite

class TestMine(TransportSuite):
    cannot = {"flying": "it has no wings"}
"""


def test_suites_say_what_they_compared(pytester: pytest.Pytester) -> None:
    """Whoever runs one on a transport of their own sees more than the name of an assertion."""
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-k", "declared")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *'flying'*"])


def test_without_pytest() -> None:
    """The test tools themselves need no pytest."""
    code = "import sys; sys.modules.update(pytest=None, _pytest=None); import aggmw.testing, aggmw.testing.hygiene"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
