"""Two users whose requests take turns on one connection to a backend that misbehaves: nobody gets another's answer.

2,500 exchanges on either event loop in `make test`, 50,000 with `--whole`.
"""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from tests.middleware.proxy.proxying import NAME, Before, core
from tests.soak.hostile import Hostile, Plan, expected, hostile

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Headers, Message
from aggmw.contracts.backends import Backend
from aggmw.contracts.identity import Identity
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware, TransportLimits

USERS = ("alice", "bob")
AT_ONCE = 6
FORGED = ((b"x-remote-user", b"root"), (b"x_remote_user", b"root"), (b"connection", b"x-remote-user"))


class Asking:
    """One exchange, from the client's side: an ASGI server's `receive` and `send`, and nothing more.

    Attributes:
        status, fields, body: of the answer, as far as it came.
        complete: whether the application said that this is all.
        left: whether the client went before.
    """

    def __init__(self, pieces: list[bytes], leaves_after: int | None) -> None:
        self._pieces = pieces
        self._leaves_after = leaves_after
        self._asked = 0
        self._gone = asyncio.Event()
        self.status = 0
        self.fields: Headers = ()
        self.body = b""
        self.complete = False
        self.left = False

    async def receive(self) -> Message:
        self._asked += 1
        if self._asked % 3 == 0:
            await asyncio.sleep(0)
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.left:
            raise OSError("the client is gone")
        if self.complete:
            raise AssertionError(f"more after the end: {message}")
        if message["type"] == "http.response.start":
            self.status, self.fields = message["status"], tuple(message["headers"])
            return
        self.body += message.get("body", b"")
        self.complete = not message.get("more_body", False)
        if self._leaves_after is not None:
            self._leaves_after -= 1
            if self._leaves_after < 0:
                self.leave()

    def leave(self) -> None:
        self.left = True
        self._gone.set()

    def field(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


class Judge:
    """Lets users ask, and compares what they get with what the backend did.

    Attributes:
        outcomes: how many exchanges ended how.
        wrong: everything that must never be, in words.
    """

    def __init__(self, site: Hostile, transport: Http1Transport, chance: random.Random) -> None:
        self._site = site
        self._chance = chance
        backend = Backend(NAME, "127.0.0.1", site.port, tls=False)
        self._proxies = {
            user: Stages(
                ProxyMiddleware(core, transport=transport), Before(backend, Identity(user, groups=("dev",)), user)
            )
            for user in USERS
        }
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def exchange(self, number: int) -> None:
        """One exchange of any kind, of one user or the other."""
        chance = self._chance
        user = chance.choice(USERS)
        method = chance.choices(["GET", "HEAD", "DELETE", "POST", "PUT"], [60, 8, 2, 20, 10])[0]
        watch = method == "GET" and chance.random() < 0.06
        size = chance.randint(0, 2000) if watch or chance.random() < 0.97 else chance.randint(0, 200_000)
        pieces = self._pieces() if method in ("POST", "PUT") else []
        checksum = f"{zlib.crc32(b''.join(pieces)):08x}"
        headers = [(b"host", b"front"), *(FORGED if chance.random() < 0.1 else ())]
        if method == "PUT":
            headers.append((b"transfer-encoding", b"chunked"))
        elif pieces:
            headers.append((b"content-length", b"%d" % sum(map(len, pieces))))
        query = f"n={number}&u={user}&c={checksum}&s={size}" + "&watch=1" * watch
        path = "/apis/soak.example.com/v1/things"
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": headers, "client": ("192.0.2.1", 1), "server": ("front", 80), "state": {},
        }  # fmt: skip
        leaves = chance.randint(0, 4) if watch else None
        asking = Asking([*pieces], leaves)
        timer = None
        if not watch and chance.random() < 0.002:  # each holds the connection until a tick has noticed it
            timer = asyncio.get_running_loop().call_later(chance.random() * 0.002, asking.leave)
        await self._proxies[user](scope, asking.receive, asking.send)
        if timer is not None:
            timer.cancel()
        self._judge(user, number, checksum, size, asking, watch=watch)

    def _pieces(self) -> list[bytes]:
        """A request's body as it comes: in one piece or several, small or large."""
        chance = self._chance
        largest = 120_000 if chance.random() < 0.05 else 1000
        return [chance.randbytes(chance.randint(0, largest)) for _ in range(chance.choice([1, 1, 2, 5]))]

    def _judge(self, user: str, number: int, checksum: str, size: int, asking: Asking, *, watch: bool) -> None:
        plan = self._site.plans.pop(number, None)
        outcome = self._outcome(asking)
        self.outcomes[outcome] += 1
        if outcome == "error":
            if asking.field(b"etag") or (plan is not None and "error" not in plan.allowed):
                self._say(f"{number}: {plan} became {asking.status} {asking.body!r}")
            return
        if plan is None:
            if outcome != "left":
                self._say(f"{number}: nobody was asked, and it became {outcome}: {asking.status} {asking.body!r}")
            return
        if outcome != "left" and outcome not in plan.allowed:
            self._say(f"{number}: {plan} became {outcome}")
        if asking.status:
            self._compare(user, number, checksum, size, asking, plan, watch=watch)

    @staticmethod
    def _outcome(asking: Asking) -> str:
        if asking.left:
            return "left"
        if not asking.complete:
            return "cut"
        if asking.status == 502:
            assert not asking.body or json.loads(asking.body)["code"] == 502
            return "error"
        return "whole"

    def _compare(
        self, user: str, number: int, checksum: str, size: int, asking: Asking, plan: Plan, *, watch: bool
    ) -> None:
        """That status, fields and body are those of this request, as far as they came."""
        if asking.status != plan.status or asking.field(b"etag") != [b'"%b-%d"' % (user.encode(), number)]:
            self._say(f"{number} of {user}: {plan} became {asking.status} {asking.fields}")
        if plan.checksum not in (checksum, "-" * 8):
            self._say(f"{number} of {user}: the backend says {plan.checksum} of a body that was {checksum}")
        whole = b"" if plan.bodiless else expected(user, number, plan.checksum, size)
        if watch:
            whole *= len(asking.body) // len(whole) + 1
        if not whole.startswith(asking.body) or (asking.complete and not watch and asking.body != whole):
            self._say(f"{number} of {user}: {plan} became {asking.body[:200]!r}")

    def _say(self, what: str) -> None:
        self.wrong.append(what)


async def take_turns(number: int, loop: str) -> tuple[Judge, Hostile]:
    """So many exchanges over one connection at a time."""
    chance = random.Random(7)
    transport = Http1Transport(limits=TransportLimits(connections=1))
    async with hostile(random.Random(8), late=loop == "asyncio") as site:
        judge = Judge(site, transport, chance)
        at = 0

        async def again_and_again() -> None:
            nonlocal at
            while at < number:
                at += 1
                await judge.exchange(at)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(again_and_again())
        assert transport.taken == 0
        await transport.aclose()
    await asyncio.sleep(0.05)
    return judge, site


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_nothing_is_swapped(loop: str, whole: bool, record_property: Callable[[str, object], None]) -> None:
    """Each answer carries who asked, to which request it is, and checksums; each is the right one, or an error.

    Every kind of request in turn with every kind of misbehaviour, on one connection as long as it lives. An answer that
    was cut is never taken for a whole one, and what can be answered is answered.
    """
    number = 50_000 if whole else 2_500
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        judge, site = runner.run(take_turns(number, loop))
    record_property(
        "figures",
        f"{dict(judge.outcomes)}; {site.connections} connections, on which users changed {site.switches} times;"
        f" the backend's conduct: {dict(site.done.most_common())}",
    )
    assert judge.wrong == []
    assert site.swapped == []
    assert judge.outcomes.total() == number
    assert judge.outcomes["whole"] > number * 0.75
    assert site.switches > number * 0.2
    assert min(site.done.values()) >= number / 1000
