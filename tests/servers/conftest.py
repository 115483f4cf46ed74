"""The servers, each started when it is first asked for and stopped at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.ports import free_port
from tests.servers.processes import Process


@pytest.fixture(scope="session")
def things() -> int:
    """The port where the service is, while a test has one."""
    return free_port()


@pytest.fixture
def port(port_of: Callable[[str], int], server: str) -> int:
    """Where the server of this test listens."""
    return port_of(server)


@pytest.fixture(scope="session")
def port_of(things: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], int]]:
    """Where a server listens, by its name."""
    running: dict[str, Process] = {}
    logs = tmp_path_factory.mktemp("servers")

    def port(name: str) -> int:
        if name not in running:
            running[name] = Process(name, things, logs / f"{name}.log")
        return running[name].port

    yield port
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.stop()
