"""Runs the Autobahn cases, in a process of its own because kosoku patches modules; prints what they found as JSON.

    python -m tests.conformance.autobahn [case…]

- "straight": the cases against an echo server;
- "proxied": the same against the same server behind a front proxy;
- "backend": the cases as a server, behind a front proxy whose client echoes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import kosoku
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from aggmw import FrontProxy, PathService
from aggmw.contracts.anonymous import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.server.serving import make_server

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
AT_ONCE = 8
SIZE = 16 * 2**20


async def echo(socket: ServerConnection) -> None:
    """The server behind."""
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass


@asynccontextmanager
async def echoing() -> AsyncIterator[int]:
    """An echo server that is not ours: no compression, as ours."""
    async with serve(echo, "127.0.0.1", 0, compression=None, max_size=SIZE, ping_interval=None) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def proxying(port: int) -> AsyncIterator[int]:
    """A front proxy before it."""
    proxy = FrontProxy(
        anonymous=Anonymous.everywhere(),
        authorization=AllowAll(),
        services=[PathService("/", f"http://127.0.0.1:{port}")],
    )
    server = make_server(proxy, port=0, loop="asyncio", signals=False)
    serving = asyncio.ensure_future(server.serve())
    await server.up.wait()
    try:
        yield server.port
    finally:
        server.stop()
        await serving


async def judged(port: int, cases: list[str]) -> dict[str, list[str]]:
    """What the cases say of a server."""
    try:
        results = await kosoku.run_fuzzingclient(f"ws://127.0.0.1:{port}", cases, concurrency=AT_ONCE)
    except kosoku.FailureError as failure:
        results = failure.results
    return found(results)


def found(results: list[Any]) -> dict[str, list[str]]:
    return {each.case_id: [each.behavior.value, each.behavior_close.value] for each in results}


async def echoed(port: int, path: str) -> str | None:
    """One visit of the client that echoes; the last message."""
    last = None
    async with connect(
        f"ws://127.0.0.1:{port}{path}", compression=None, max_size=SIZE, ping_interval=None, proxy=None
    ) as socket:
        try:
            async for message in socket:
                last = message
                if not path.startswith("/getCaseCount"):
                    await socket.send(message)
        except ConnectionClosed:
            pass
    return None if last is None else str(last)


async def as_backend(cases: list[str]) -> dict[str, list[str]]:
    """What the cases say of a front proxy's client."""
    async with kosoku.run_fuzzingserver(cases, port=0) as server, proxying(server.port) as port:
        count = int(await echoed(port, "/getCaseCount") or 0)
        for number in range(1, count + 1):
            await echoed(port, f"/runCase?case={number}&agent=aggmw")
        await echoed(port, "/updateReports?agent=aggmw")
        try:
            results = await asyncio.wait_for(server.get_result(), 60)
        except kosoku.FailureError as failure:
            results = failure.results
    return found(results)


async def main(cases: list[str]) -> None:
    async with echoing() as port:
        straight = await judged(port, cases)
        async with proxying(port) as proxied:
            through = await judged(proxied, cases)
    report = {"straight": straight, "proxied": through, "backend": await as_backend(cases)}
    sys.stdout.write(f"\n{json.dumps(report)}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or CASES))
