"""The keys of an issuer of tokens: found by OpenID Connect Discovery or in a file, and renewed in the background.

No request asks an issuer. One that needs newer keys waits for the background work, which asks at most once in an
interval however many tokens want it (security cases C3, "unknown-kid flood").
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import structlog

from aggmw.contracts.threads import in_thread
from aggmw.errors import AggmwError, NotOpened, UpstreamBroken, UpstreamError, fault
from aggmw.middleware.authentication.jose import BadKeys, VerificationKeys, parse_jwks, strict_object
from aggmw.net.fetch import fetch
from aggmw.net.tls import trusting_context

__all__ = ["WELL_KNOWN", "IssuerKeys", "ReadKeys", "check_url", "discovered", "from_file"]

_log = structlog.get_logger("aggmw.authentication")

WELL_KNOWN = "/.well-known/openid-configuration"
_MAX_BYTES = 512 * 1024
_FETCH_SECONDS = 5.0
_PATIENCE = 10.0
_WAITING = 256

ReadKeys: TypeAlias = Callable[[], Awaitable[bytes]]
"""Reads a JSON Web Key Set from where it is, now."""


class IssuerKeys:
    """What is known of the keys of one issuer. When they cannot be read, the last good ones stay.

    Args:
        issuer: for the log.
        read: where they come from.
        refresh: seconds between two good readings.
        retry: seconds after a failure.
        least_interval: seconds between the beginnings of two readings, whoever asks for them.
        changed: called when there are other keys.

    Attributes:
        keys: the last that were read; None before there were any.
    """

    def __init__(
        self,
        issuer: str,
        read: ReadKeys,
        *,
        refresh: float = 300.0,
        retry: float = 10.0,
        least_interval: float = 2.0,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._issuer = issuer
        self._read = read
        self._refresh = refresh
        self._retry = retry
        self._least_interval = least_interval
        self._changed = changed
        self.keys: VerificationKeys | None = None
        self._cause: str | None = None
        self._begun = 0
        self._done = 0
        self._waiting = 0
        # Made by `open`, for the event loop of `run`.
        self._wanted: asyncio.Event | None = None
        self._end: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"IssuerKeys({self._issuer!r}, {self.keys!r})"

    def open(self) -> None:
        """From now on somebody may wait for `run`, which is about to be."""
        if self._wanted is None:
            self._wanted, self._end = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Read them again and again, until cancelled. Must have been opened."""
        loop = asyncio.get_running_loop()
        wanted = self._wanted
        assert wanted is not None
        try:
            while True:
                wanted.clear()
                began = loop.time()
                self._begun += 1
                good = await self._attempt()
                self._done += 1
                self._tell()
                await asyncio.sleep(began + self._least_interval - loop.time())
                try:
                    async with asyncio.timeout_at(began + (self._refresh if good else self._retry)):
                        await wanted.wait()
                except TimeoutError:
                    continue
        finally:
            self._wanted = None
            self._tell()

    async def renewed(self, seen: VerificationKeys | None) -> bool:
        """Whether there are other keys than those that were seen; waits until they were read once more.

        Gives up when many wait already, and after some seconds.

        Raises:
            NotOpened: the background work does not run.
        """
        if self.keys is not seen:
            return True
        if self._wanted is None:
            raise NotOpened("authentication", "async with the JWTAuthenticator: …")
        if self._waiting >= _WAITING:
            return False
        # One that has begun may have read what was there before the token was issued.
        enough = self._begun + 1
        self._waiting += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                while self.keys is seen and self._done < enough and self._wanted and self._end:
                    self._wanted.set()
                    await self._end.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        return self.keys is not seen

    def _tell(self) -> None:
        """Wake who waits for the end of a reading."""
        if self._end is not None:
            self._end.set()
        self._end = asyncio.Event()

    async def _attempt(self) -> bool:
        try:
            document = await self._read()
            if self.keys is None or self.keys.source != document:
                keys = parse_jwks(document)
                self.keys = keys
                self._changed()
                _log.info("keys of an issuer read", issuer=self._issuer, keys=len(keys.keys), left_out=keys.dropped)
        except (AggmwError, BadKeys) as error:
            self._note(str(error))
            return False
        except Exception as error:  # noqa: BLE001  a fault of ours must not end the renewal
            _log.error("keys of an issuer not read by a fault of our own", issuer=self._issuer, **fault(error))
            return False
        self._note(None)
        return True

    def _note(self, cause: str | None) -> None:
        if cause is not None and cause != self._cause:
            _log.warning(
                "keys of an issuer cannot be read; the last good ones stay",
                issuer=self._issuer,
                cause=cause,
                have_keys=self.keys is not None,
            )
        self._cause = cause


def discovered(
    issuer: str,
    *,
    discovery_url: str = "",
    ca: bytes = b"",
    loopback_http: bool = False,
    timeout: float = _FETCH_SECONDS,
) -> ReadKeys:
    """The keys that an issuer publishes by OpenID Connect Discovery 1.0.

    Args:
        issuer: its identifier; what its document calls itself must be the same, character for character.
        discovery_url: where the document is; "" for the place that the issuer's identifier tells.
        ca: whom to trust, a PEM bundle; empty: the system's roots.
        loopback_http: whether `http://` will do for addresses of this machine.
        timeout: seconds for each of the two documents.
    """
    where = discovery_url or issuer.rstrip("/") + WELL_KNOWN
    context: ssl.SSLContext | None = None

    async def get(url: str, what: str) -> bytes:
        nonlocal context
        secure = url.lower().startswith("https:")
        if secure and context is None:
            context = trusting_context(ca)
        try:
            reply = await fetch(
                url,
                context=context if secure else None,
                limit=_MAX_BYTES,
                timeout=timeout,
                headers=((b"accept", b"application/json"),),
            )
        except UpstreamError as error:
            raise type(error)(f"the {what}: {error}") from error
        if reply.status != 200:
            raise UpstreamBroken(f"the {what}: it was answered with status {reply.status}")
        return reply.body

    async def read() -> bytes:
        try:
            document = strict_object(await get(where, "discovery document"))
        except ValueError as error:
            raise BadKeys(f"the discovery document cannot be read: {error}") from None
        if document.get("issuer") != issuer:
            raise BadKeys("the discovery document is that of another issuer")
        keys = document.get("jwks_uri")
        if not isinstance(keys, str):
            raise BadKeys("the discovery document does not say where the keys are (jwks_uri)")
        try:
            check_url(keys, loopback_http=loopback_http)
        except ValueError as error:
            raise BadKeys(f"the discovery document says a place of the keys (jwks_uri) that {error}") from None
        return await get(keys, "key set")

    return read


def from_file(path: Path) -> ReadKeys:
    """A key set in a file."""

    async def read() -> bytes:
        try:
            return await in_thread(path.read_bytes)
        except OSError as error:
            raise BadKeys(f"{path} cannot be read: {error.strerror}") from None

    return read


def check_url(url: str, *, loopback_http: bool = False, query: bool = True) -> None:
    """Refuse what is not asked: only https, and, where it is allowed, http on this machine.

    Raises:
        ValueError: why, as the end of a sentence.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if not host or not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("is no URL")
    if parts.scheme != "https" and not (loopback_http and parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user name or a password")
    if "#" in url:
        raise ValueError("must not contain a fragment")
    if "?" in url and not query:
        raise ValueError("must not contain a query")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
