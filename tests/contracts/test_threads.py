"""What is done in a thread is waited for by whoever wants it, and by nobody else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from functools import partial

import pytest

from aggmw.contracts.threads import in_thread


async def test_in_thread() -> None:
    """What the function gives or raises; who goes away while it runs is not told, and nothing breaks."""
    assert await in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(KeyError):
        await in_thread(lambda: {}["x"])
    leave, left = threading.Event(), threading.Event()
    task = asyncio.create_task(in_thread(lambda: (leave.wait(60), left.set())))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    leave.set()
    assert await in_thread(lambda: left.wait(60))


async def test_name_of_the_thread() -> None:
    """It says what is done, and not with what."""

    def name(secret: str) -> str:
        return threading.current_thread().name

    assert (await in_thread(partial(name, "s3cr3t"))).endswith(f"{name.__qualname__}")
    assert await in_thread(lambda: name("s3cr3t")) == "aggmw test_name_of_the_thread.<locals>.<lambda>"


def test_process_does_not_wait_for_it() -> None:
    """A server that was told to stop ends, although a long policy is being built or a file system hangs."""
    code = """
import asyncio, threading
from aggmw.contracts.threads import in_thread
async def main():
    asyncio.get_running_loop().create_task(in_thread(threading.Event().wait))
    await asyncio.sleep(0.01)
asyncio.run(main())
print("over")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("over\n", "")
