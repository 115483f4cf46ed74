"""What the long tests share: certificates, contexts, and a front proxy in a process of its own."""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.soak.front import GROUP, SERVER_NAME, VERSION

from aggmw.pki.make import issue_client, issue_server, make_ca

__all__ = ["ROOT", "THINGS", "Certificates", "Front", "front"]

ROOT = Path(__file__).parent.parent.parent
THINGS = f"/apis/{GROUP}/{VERSION}/things".encode()
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """A directory of certificates: of the door, of backends, and the one that the front proxy shows them."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> Certificates:
        """Write them."""
        authority = make_ca("soak")
        pairs = {
            "ca": authority,
            "front": issue_server(authority, "front", names=["localhost"]),
            "back": issue_server(authority, "back", names=[SERVER_NAME]),
            "front-proxy": issue_client(authority, "front-proxy"),
        }
        for name, pair in pairs.items():
            (path / f"{name}.crt").write_bytes(pair.certificate)
            (path / f"{name}.key").write_bytes(pair.key)
        return cls(path)

    def serving(self) -> ssl.SSLContext:
        """A backend's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path / "back.crt", self.path / "back.key")
        context.load_verify_locations(self.path / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def asking(self) -> ssl.SSLContext:
        """A client's."""
        return ssl.create_default_context(cafile=str(self.path / "ca.crt"))


class Front:
    """A front proxy in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.pid = process.pid
        self.port = port

    async def stop(self) -> int:
        """As an operator would; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()


@asynccontextmanager
async def front(
    loop: str, backend: int, certificates: Certificates | None, *, connections: int = 1000
) -> AsyncIterator[Front]:
    """A front proxy in a process of its own. It has to end with status 0.

    Args:
        loop: its event loop.
        backend: the port it forwards to.
        certificates: TLS on both sides.
        connections: to the backend, at most.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.soak.front", loop, str(backend), f"--connections={connections}"),
        *(("--certificates", str(certificates.path)) if certificates is not None else ()),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            port = int(await process.stdout.readline())
        running = Front(process, port)
        yield running
        assert await running.stop() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
