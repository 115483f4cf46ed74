"""SIGHUP replaces workers one after another: what clients see of it, and what happens when it cannot be done."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.server.workers.conftest import PATIENCE, Workers, eventually, gone, much_grace
from tests.server.workers.test_supervision import IMPATIENT

Begin = Callable[..., Workers]


class Load:
    """Clients that never rest: some with a new connection for every request, some that keep theirs.

    The latter do as Go's client: a request on a connection that served before, and ended without a byte of an answer,
    is repeated on another one.
    """

    def __init__(self, served: Workers) -> None:
        self.failures: list[str] = []
        self.new = self.kept = self.repeated = 0
        self.pids: set[str] = set()
        self._served = served
        self._over = threading.Event()
        clients = [self._new] * 3 + [self._kept] * 3
        self._threads = [threading.Thread(target=client) for client in clients]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _new(self) -> None:
        context = self._served.context
        while not self._over.is_set():
            connection = self._served.connect(context)
            try:
                self._ask(connection)
                self.new += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"new connection: {error!r}")
            finally:
                connection.close()

    def _kept(self) -> None:
        context = self._served.context
        connection, used = self._served.connect(context), False
        while not self._over.is_set():
            try:
                self._ask(connection)
                self.kept += 1
                used = True
            except (ConnectionError, ssl.SSLEOFError, http.client.RemoteDisconnected) as error:
                if not used:
                    self.failures.append(f"connection not used before: {error!r}")
                self.repeated += 1
                connection.close()
                connection, used = self._served.connect(context), False
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"kept connection: {error!r}")
                connection, used = self._served.connect(context), False
        connection.close()

    def _ask(self, connection: http.client.HTTPSConnection) -> None:
        status, body = self._served.get("/app/pid", connection)
        self.pids.add(body)
        if status != 200:
            self.failures.append(f"{status}: {body}")


def test_under_load(begin: Begin) -> None:
    """http-facts §3: no error on a new connection, and none for who repeats a request on a reused one."""
    served = begin(2)
    before = served.up(1, 2)
    with Load(served) as load:
        eventually(lambda: {str(pid) for pid in before.values()} <= load.pids)
        for _ in range(2):
            served.signal(signal.SIGHUP)
            after = served.up(1, 2)
            served.until("restarted")
        eventually(lambda: {str(pid) for pid in after.values()} <= load.pids)
        eventually(lambda: min(load.new, load.kept) > 100)
    assert load.failures == []
    assert served.answering() == set(after.values())
    assert all(gone(pid) for pid in before.values())
    assert served.stop() == 0


def test_connections_that_have_asked_nothing_yet(begin: Begin) -> None:
    """Who is connected, or in the handshake, when a worker begins to leave gets the answer to its request."""
    served = begin(2)
    served.up(1, 2)
    context = served.context
    connected = [served.connect(context) for _ in range(6)]
    for each in connected:
        each.connect()
    shaking = [socket.create_connection(("127.0.0.1", served.port), PATIENCE) for _ in range(6)]

    def ask(each: http.client.HTTPSConnection) -> int:
        with closing(each):
            return served.get("/app/pid", each)[0]

    def shake_hands_and_ask(plain: socket.socket) -> int:
        with context.wrap_socket(plain, server_hostname="localhost") as wire:
            wire.sendall(b"GET /app/pid HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n")
            return int(wire.recv(1000).split()[1])

    served.signal(signal.SIGHUP)
    served.up(1)
    with ThreadPoolExecutor(12) as clients:  # all at once: they have two seconds
        answers = clients.map(ask, connected), clients.map(shake_hands_and_ask, shaking)
    assert [*answers[0], *answers[1]] == [200] * 12
    served.until("restarted")
    assert served.stop() == 0


def test_files_are_read_anew(begin: Begin) -> None:
    """New workers serve what the files say now, and there may be more of them, or fewer."""
    served = begin(2)
    served.up(1, 2)
    config = served.path / "config.yaml"
    config.write_text(config.read_text().replace("/app/", "/app2/"))
    served.signal(signal.SIGHUP)
    served.up(1, 2)
    served.until("restarted")
    assert {served.get("/app/pid")[0] for _ in range(10)} == {404}
    assert served.get("/app2/pid")[0] == 200
    assert served.stop() == 0


def test_number_of_workers_changes(begin: Begin) -> None:
    """Workers are added and taken away; no connection goes to one that is not there."""
    served = begin()
    config = served.path / "config.yaml"
    pids = served.up(1, 2)
    for number in (3, 1, 2):
        config.write_text(config.read_text().rpartition("workers:")[0] + f"workers: {number}\n")
        served.signal(signal.SIGHUP)
        pids = served.up(*range(1, number + 1))
        served.until("restarted", workers=number)
        assert served.answering() == set(pids.values()) == served.children
    assert served.stop() == 0


def test_what_cannot_be_used_changes_nothing(begin: Begin) -> None:
    """A broken configuration, a broken file that it names, another address: each is said, and all workers stay."""
    served = begin()
    pids = served.up(1, 2)
    for file, text, path in (
        ("config.yaml", "nonsense: 1\n", "config.yaml: nonsense"),
        ("config.yaml", "[" * 3000, "config.yaml"),
        ("config.yaml", "port: 2026-13-01\n", "config.yaml"),
        ("config.yaml", "port: 1\n", "config.yaml: host, port"),
        ("tokens.csv", "nonsense\n", "tokens.csv:1"),
    ):
        before = (served.path / file).read_text()
        (served.path / file).write_text(text)
        served.signal(signal.SIGHUP)
        assert served.until("not restarted")["path"] == path
        (served.path / file).write_text(before)
    served.until("restart ends: a new worker does not serve", replaced=0)
    assert served.answering() == set(pids.values()) == served.children
    served.signal(signal.SIGHUP)
    served.until("restarted")
    assert served.stop() == 0


def test_shorter_grace(begin: Begin, directory: Path) -> None:
    """A worker that leaves has the grace time that it was started with, not that of its successor."""
    much_grace(directory)
    served = begin(command=IMPATIENT)
    pids = served.up(1, 2)
    connections = served.connected(2, pids.values())
    with ThreadPoolExecutor(4) as clients:
        answers = clients.map(partial(served.get, "/app/held"), connections)
        eventually(lambda: served.figures().sum("apiserver_current_inflight_requests") == 4)
        config = served.path / "config.yaml"
        config.write_text(re.sub("grace: .*", "grace: 0s", config.read_text()))
        served.signal(signal.SIGHUP)
        served.up(1)
        time.sleep(2)  # with the grace time of its successor it would be killed after one
        served.go()
        served.until("restarted")
    assert [status for status, _ in answers] == [200] * 4
    assert served.stop() == 0
    for connection in connections:
        connection.close()


def test_stop_in_the_middle(begin: Begin) -> None:
    """SIGTERM ends a restart, and everything that it has started."""
    served = begin(2)
    pids = served.up(1, 2)
    served.signal(signal.SIGHUP)
    served.until("restarting")
    eventually(lambda: len(served.children) == 3)
    children = served.children
    assert served.stop() == 0
    assert all(gone(pid) for pid in (*children, *pids.values()))
    assert not [line for line in served.lines if line.get("level") == "error"]


def test_death_in_the_middle(begin: Begin) -> None:
    """A worker that dies while others are replaced is replaced, too, once."""
    served = begin(2)
    pids = served.up(1, 2)
    served.signal(signal.SIGHUP)
    served.until("restarting")
    os.kill(pids[2], signal.SIGKILL)
    served.until("restarted")
    eventually(lambda: len(served.answering()) == 2)
    assert served.answering() == served.children
    assert not set(pids.values()) & served.children
    assert served.stop() == 0


def test_counters_never_fall(begin: Begin) -> None:
    """The page of every worker shows what all have counted, also those that are gone, and after each death."""
    served = begin(2)
    served.up(1, 2)
    for _ in range(20):
        assert served.get("/app/pid")[0] == 200
    eventually(lambda: served.figures().sum("apiserver_request_total", subresource="/app/") == 20)
    counted = [served.figures().sum("apiserver_request_total", subresource="/app/") for _ in range(6)]
    assert counted == [20] * 6
    page = served.figures()
    assert {sample.labels["worker"] for sample in page.of("process_resident_memory_bytes")} == {"1", "2"}
    assert (page.sum("aggmw_workers"), page.sum("aggmw_worker_deaths_total")) == (2, 0)
    assert page.sum("apiserver_request_duration_seconds_count", subresource="/app/") == 20
    served.signal(signal.SIGHUP)
    served.until("restarted")
    assert [served.figures().sum("apiserver_request_total", subresource="/app/") for _ in range(6)] == [20] * 6
    os.kill(next(iter(served.children)), signal.SIGKILL)
    served.until("worker died, replacing it")
    served.until("worker serves")
    page = served.figures()
    assert page.sum("apiserver_request_total", subresource="/app/") == 20
    assert (page.sum("aggmw_workers"), page.sum("aggmw_worker_deaths_total")) == (2, 1)
    assert {sample.labels["worker"] for sample in page.of("process_resident_memory_bytes")} == {"1", "2"}
    assert served.stop() == 0
