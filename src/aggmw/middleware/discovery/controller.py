"""The background work of discovery: every backend is asked again and again, and never on a request's behalf."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import structlog

from aggmw.contracts.backends import AnyBackend, APIService, Routes, RouteSource, UpstreamTransport
from aggmw.contracts.catalog import APIVersion
from aggmw.contracts.impersonation import Impersonate
from aggmw.errors import fault
from aggmw.middleware.discovery.fetch import GroupVersion, IndexReader, Origin, ResourcesReader
from aggmw.middleware.discovery.limits import Offload

__all__ = ["DiscoveryController", "Key", "Learned", "Synced", "Timing", "key_of"]

_log = structlog.get_logger("aggmw.discovery")

Key: TypeAlias = tuple[AnyBackend | None, str, str]
"""A group version at one backend: what was learned there is forgotten when it moves."""

TICK = 1.0
SETTLE = 0.02


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how long backends are asked, in seconds.

    Args:
        refresh: between two good answers; also the longest pause after failures.
        first_retry: the pause after a first failure; it doubles with each further one.
        timeout, openapi_timeout: for one answer, whole.
        at_once, openapi_at_once: how many backends are asked at the same time.
    """

    refresh: float = 60.0
    first_retry: float = 0.5
    timeout: float = 5.0
    openapi_timeout: float = 60.0
    at_once: int = 8
    openapi_at_once: int = 4


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of one remote group version.

    Attributes:
        version: the last good answer; None when there never was one.
        cause: why the last attempt failed, safe to show; "" when it did not.
        asked: whether an attempt was finished at all.
        openapi: the hash of the backend's own OpenAPI document, "" for one without a hash, None when it has none.
    """

    version: APIVersion | None = None
    cause: str = ""
    asked: bool = False
    openapi: str | None = None


UNKNOWN = Learned()


def key_of(service: APIService) -> Key:
    """Under which key the controller keeps what it learned of a service."""
    return service.backend, service.group, service.version


class DiscoveryController:
    """Learns what the backends of the current routes serve. A `Controller`: `run` works until cancelled.

    Args:
        source: the routes; a new snapshot is noticed within a second, at once after `refresh`.
        transport: how backends are reached.
        publish: called on the event loop whenever routes or knowledge have changed; heavy work goes to what is given.
        timing: how often and how long.

    Attributes:
        started: whether it ever ran.
        synced: whether every backend of some snapshot was asked, with whatever outcome.
    """

    name = "discovery"

    def __init__(
        self,
        source: RouteSource,
        transport: UpstreamTransport,
        publish: Callable[[Offload], Awaitable[None]],
        timing: Timing,
    ) -> None:
        self._source = source
        self._transport = transport
        self._publish = publish
        self._timing = timing
        self._learned: dict[Key, Learned] = {}
        self._offload = Offload()
        self._wake: asyncio.Event | None = None
        self.started = False
        self.synced = not any(service.backend for service in source.routes.services)

    @property
    def learned(self) -> Mapping[Key, Learned]:
        """What is known, by key."""
        return self._learned

    def refresh(self) -> None:
        """Look at the routes now. Does nothing while the controller does not run."""
        if self._wake is not None:
            self._wake.set()

    async def run(self) -> None:
        self.started = True
        wake = self._wake = asyncio.Event()
        self._offload = Offload()
        slots = asyncio.Semaphore(self._timing.at_once), asyncio.Semaphore(self._timing.openapi_at_once)
        running: dict[Origin, list[asyncio.Task[None]]] = {}
        followed: Routes | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    changed = wake.is_set()
                    wake.clear()
                    if (routes := self._source.routes) is not followed:
                        followed, changed = routes, True
                        self._follow(routes, running, tasks, slots)
                    if changed:
                        synced = self._all_asked(routes)
                        await self._publish(self._offload)
                        self.synced = self.synced or synced
                    await _nudge(wake)
        finally:
            self._wake = None

    def _follow(
        self,
        routes: Routes,
        running: dict[Origin, list[asyncio.Task[None]]],
        tasks: asyncio.TaskGroup,
        slots: tuple[asyncio.Semaphore, asyncio.Semaphore],
    ) -> None:
        """Ask who is new, leave alone who is gone, forget what was learned of them."""
        origins = origins_of(routes.services)
        known = {key_of(service) for service in routes.services}
        self._learned = {key: learned for key, learned in self._learned.items() if key in known}
        for gone in running.keys() - set(origins):
            for task in running.pop(gone):
                task.cancel()
        for origin in origins:
            if origin not in running:
                running[origin] = [
                    tasks.create_task(self._keep(self._resources(origin), slots[0])),
                    tasks.create_task(self._keep(self._index(origin), slots[1])),
                ]

    def _all_asked(self, routes: Routes) -> bool:
        return all(self._learned.get(key_of(service), UNKNOWN).asked for service in routes.services if service.backend)

    async def _keep(self, attempt: Callable[[], Awaitable[bool]], slots: asyncio.Semaphore) -> None:
        """Attempt for ever: each `refresh` seconds after success, with doubling pauses after failure."""
        pause = self._timing.first_retry
        while True:
            async with slots:
                succeeded = await attempt()
            if succeeded:
                pause = self._timing.first_retry
                await asyncio.sleep(self._timing.refresh)
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._timing.refresh)

    def _resources(self, origin: Origin) -> Callable[[], Awaitable[bool]]:
        reader = ResourcesReader(self._transport, origin, timeout=self._timing.timeout, offload=self._offload)

        async def attempt() -> bool:
            results: Mapping[GroupVersion, APIVersion | str]
            try:
                results = await reader.read()
            except Exception as error:  # noqa: BLE001  a fault of ours must not end discovery of the others
                _log.error("discovery failed by a fault of its own", backend=origin.backend.name, **fault(error))
                results = dict.fromkeys(origin.owned, "its discovery could not be read")
            for service in origin.services:
                self._note_version(service, results[service.group, service.version])
            return not any(isinstance(result, str) for result in results.values())

        return attempt

    def _index(self, origin: Origin) -> Callable[[], Awaitable[bool]]:
        reader = IndexReader(self._transport, origin, timeout=self._timing.openapi_timeout, offload=self._offload)

        async def attempt() -> bool:
            try:
                hashes = await reader.read()
            except Exception as error:  # noqa: BLE001  as above
                _log.error("OpenAPI index failed by a fault of its own", backend=origin.backend.name, **fault(error))
                hashes = None
            if hashes is None:
                return False
            for service in origin.services:
                key = key_of(service)
                learned = self._learned.get(key, UNKNOWN)
                self._set(key, replace(learned, openapi=hashes.get((service.group, service.version))))
            return True

        return attempt

    def _note_version(self, service: APIService, result: APIVersion | str) -> None:
        """A failure keeps the last good answer; so does a server that calls its own group version stale."""
        key = key_of(service)
        before = self._learned.get(key, UNKNOWN)
        version, cause = before.version, ""
        if isinstance(result, str):
            cause = result
        else:
            if result.stale:
                cause = "its own server lists it as stale"
            if result.resources or not result.stale:
                version = replace(result, stale=False)
        if version == before.version:
            version = before.version
        if bool(cause) != bool(before.cause) or not before.asked:
            _log_change(service.name, cause)
        self._set(key, replace(before, version=version, cause=cause, asked=True))

    def _set(self, key: Key, learned: Learned) -> None:
        if learned != self._learned.get(key):
            self._learned[key] = learned
            self.refresh()


def origins_of(services: Iterable[APIService]) -> list[Origin]:
    """The servers behind services: what differs only in name is one."""
    found: dict[tuple[AnyBackend, bool, Impersonate | None], list[APIService]] = {}
    for service in services:
        if service.backend is not None:
            key = (replace(service.backend, name=""), not service.group, service.impersonation)
            found.setdefault(key, []).append(service)
    return [Origin(endpoint, core, tuple(each)) for (endpoint, core, _), each in found.items()]


async def _nudge(wake: asyncio.Event) -> None:
    """Until something changed (and what comes with it had its moment), or until it is time to look at the routes."""
    try:
        async with asyncio.timeout(TICK):
            await wake.wait()
    except TimeoutError:
        return
    await asyncio.sleep(SETTLE)


def _log_change(name: str, cause: str) -> None:
    if cause:
        _log.warning("discovery of a backend failed; its last good answer is kept", service=name, cause=cause)
    else:
        _log.info("discovery of a backend succeeded", service=name)


class Synced:
    """Readiness: every backend was asked once, with whatever outcome."""

    name = "poststarthook/apiservice-discovery-controller"

    def __init__(self, controller: DiscoveryController) -> None:
        self._controller = controller

    def check(self) -> str | None:
        return None if self._controller.synced else "not every backend was asked which resources it serves"
