"""Which endpoint of a service a request goes to, which are left out, and how much may be repeated. No I/O, no timer.

The choice is the better of two at random, by what is under way there (Mitzenmacher, "The power of two choices", 2001):
an endpoint that is slow has much under way, and so gets less, without anybody measuring it. One that fails at once
would get the most; so who fails several times in a row is left out for a while, and comes back by one request that
succeeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from hashlib import blake2b

import structlog

from aggmw.contracts.backends import Backend, BalancedBackend
from aggmw.errors import UpstreamBusy

__all__ = ["WINDOW_SECONDS", "Attempt", "Balance", "Budget", "Endpoint"]

_log = structlog.get_logger("aggmw.proxy")

WINDOW_SECONDS = 10.0
_JITTER = 0.2  # so much less at most, so that what was left out together does not come back together
_MOST_DOUBLINGS = 30


class Budget:
    """How much of what was sent may be sent again: so that repeating never multiplies what an overloaded service gets.

    Counted in the window of ten seconds that goes on and in the one before it.

    Args:
        share: of the requests.
        per_second: and so many more.
        now: the moment when it begins, in seconds.
    """

    __slots__ = ("_began", "_floor", "_requests", "_requests_before", "_share", "_taken", "_taken_before")

    def __init__(self, share: float, per_second: float, now: float) -> None:
        self._share = share
        self._floor = per_second * WINDOW_SECONDS
        self._began = now
        self._requests = self._requests_before = self._taken = self._taken_before = 0

    def note(self, now: float) -> None:
        """There is one more request."""
        if now - self._began >= WINDOW_SECONDS:
            self._turn(now)
        self._requests += 1

    def left(self, now: float) -> bool:
        """Whether one may be repeated."""
        if now - self._began >= WINDOW_SECONDS:
            self._turn(now)
        allowed = self._floor + self._share * (self._requests + self._requests_before)
        return self._taken + self._taken_before + 1 <= allowed

    def take(self, now: float) -> bool:
        """Repeat one, if it may be."""
        if not self.left(now):
            return False
        self._taken += 1
        return True

    def _turn(self, now: float) -> None:
        if now - self._began < 2 * WINDOW_SECONDS:
            self._requests_before, self._taken_before = self._requests, self._taken
        else:
            self._requests_before = self._taken_before = 0
        self._requests = self._taken = 0
        self._began = now


class Endpoint:
    """What is known of one endpoint.

    Attributes:
        backend: where it is.
        in_flight: requests that are under way there.
        failures: in a row.
        out: whether it is left out.
        back_at: when a request is let through again, or was.
        requests, failed, ejections, retried, refused, desperate: how often, since the beginning: a request went there;
            it failed; it was left out; a request went on to another one; one would have, had the budget allowed it; it
            was asked although it was left out, because none works.
    """

    __slots__ = (
        "_seed",
        "back_at",
        "backend",
        "desperate",
        "ejections",
        "epoch",
        "failed",
        "failures",
        "in_flight",
        "out",
        "out_seconds",
        "probing",
        "refused",
        "requests",
        "restored_at",
        "retried",
        "row",
    )

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.in_flight = 0
        self.failures = 0
        self.out = False
        self.back_at = 0.0
        self.out_seconds = 0.0
        self.restored_at = -math.inf
        self.probing = False
        self.epoch = 0  # what began before it was left out says nothing of it afterwards
        self.row = 0
        self.requests = self.failed = self.ejections = self.retried = self.refused = self.desperate = 0
        self._seed = blake2b(backend.address.encode(), digest_size=16).digest()

    @property
    def address(self) -> str:
        return self.backend.address

    def weight(self, key: bytes) -> bytes:
        """How much this endpoint is meant for a caller, in comparison."""
        return blake2b(key, digest_size=8, key=self._seed).digest()


class Attempt:
    """One request at one endpoint. It may succeed, and may fail after that, and is over at some time.

    Attributes:
        endpoint: where it goes.
        probe: whether it is to show that the endpoint works again.
    """

    __slots__ = ("_balance", "_epoch", "_over", "endpoint", "probe")

    def __init__(self, balance: Balance, endpoint: Endpoint, *, probe: bool) -> None:
        self._balance = balance
        self._epoch = endpoint.epoch
        self._over = False
        self.endpoint = endpoint
        self.probe = probe

    def succeeded(self) -> None:
        """The endpoint does what it should."""
        endpoint = self.endpoint
        if endpoint.epoch == self._epoch:
            endpoint.failures = 0
            if endpoint.out:
                self._balance.restore(endpoint)

    def failed(self) -> None:
        """The endpoint does not."""
        endpoint = self.endpoint
        endpoint.failed += 1
        if endpoint.epoch == self._epoch:
            endpoint.failures += 1
            self._balance.consider(endpoint, again=self.probe)

    def over(self) -> None:
        """It is under way no longer."""
        if self._over:
            return
        self._over = True
        self.endpoint.in_flight -= 1
        self._balance.in_flight -= 1
        if self.probe and self.endpoint.epoch == self._epoch:
            self.endpoint.probing = False  # whether it ended without a word on how the endpoint is, or restored it


class Balance:
    """The endpoints of a service on one event loop.

    Args:
        backend: names them.
        clock: seconds that only grow.
        chance: between 0 and 1, differently each time.

    Attributes:
        name: of the service; where several have the same endpoints, of one of them.
        endpoints: all of them.
        in_flight: requests that are under way.
        refused: how many requests were not let in, because so many were under way.
        used_at: when a request came last.
    """

    def __init__(self, backend: BalancedBackend, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        options = self.options = backend.balancing
        self.name = backend.name
        self.endpoints = tuple(Endpoint(each) for each in backend.endpoints)
        self.in_flight = 0
        self.refused = 0
        self.used_at = -math.inf
        self.budget = Budget(options.retry_share, options.retries_per_second, clock())
        self._clock = clock
        self._chance = chance
        self._live = list(self.endpoints)
        self._out: list[Endpoint] = []
        number = len(self.endpoints)
        self._most_out = min(number - 1, math.ceil(number * options.eject_share))

    def __repr__(self) -> str:
        now = self._clock()
        shown = [
            f"{each.address} ({each.in_flight} in flight"
            + (f", {each.failures} failures" if each.failures and not each.out else "")
            + (f", left out for {max(0.0, each.back_at - now):.0f} s" if each.out else "")
            + ")"
            for each in self.endpoints
        ]
        return f"<Balance {self.name}: {', '.join(shown)}>"

    @property
    def desperate(self) -> bool:
        """Whether no endpoint works, as far as anybody knows: then all are asked."""
        return bool(self._out) and all(each.out or each.failures >= self.options.failures for each in self._live)

    def admit(self, now: float) -> None:
        """A new request.

        Raises:
            UpstreamBusy: too many are under way.
        """
        self.used_at = now
        most = self.options.requests
        if most is not None and self.in_flight >= most:
            self.refused += 1
            raise UpstreamBusy("it is busy: too many requests are under way")
        self.budget.note(now)

    def first(self, key: bytes, *, safe: bool, now: float) -> Attempt:
        """The attempt that a request begins with.

        Args:
            key: by what its caller is kept at an endpoint; empty: by nothing.
            safe: whether the request can be repeated, should the endpoint fail, and its time is bounded.
            now: the moment.
        """
        if self._out and (probe := self._due(now, key, safe=safe)) is not None:
            probe.probing = True
            probe.back_at = now
            return self._begin(probe, probe=True)
        if not self._out:
            return self._begin(self._chosen(self._live, key))
        endpoint = self._chosen(self.endpoints if self.desperate else self._live, key)
        if endpoint.out:
            endpoint.desperate += 1
        return self._begin(endpoint)

    def another(self, key: bytes, tried: Container[Endpoint]) -> Attempt | None:
        """An attempt at an endpoint that was not tried yet; None when there is none."""
        left = self.untried(tried)
        return self._begin(self._chosen(left, key)) if left else None

    def untried(self, tried: Container[Endpoint]) -> list[Endpoint]:
        """The endpoints that may be asked after these."""
        return [each for each in (self.endpoints if self.desperate else self._live) if each not in tried]

    def consider(self, endpoint: Endpoint, *, again: bool) -> None:
        """An endpoint failed: leave it out, if that is due; `again`: it was to show that it works."""
        if endpoint.out:
            if again:
                self._eject(endpoint)
        elif endpoint.failures >= self.options.failures and len(self._out) < self._most_out:
            if self._clock() - endpoint.restored_at >= self.options.eject_longest_seconds:
                endpoint.row = 0
            self._eject(endpoint)
            self._sort()

    def restore(self, endpoint: Endpoint) -> None:
        """An endpoint that was left out works."""
        endpoint.out = endpoint.probing = False
        endpoint.restored_at = self._clock()
        self._sort()
        _log.info("endpoint works again", service=self.name, endpoint=endpoint.address)

    def _sort(self) -> None:
        self._live = [each for each in self.endpoints if not each.out]
        self._out = [each for each in self.endpoints if each.out]

    def _eject(self, endpoint: Endpoint) -> None:
        options = self.options
        seconds = min(options.eject_longest_seconds, options.eject_seconds * 2 ** min(endpoint.row, _MOST_DOUBLINGS))
        endpoint.out = True
        endpoint.probing = False
        endpoint.row += 1
        endpoint.epoch += 1
        endpoint.ejections += 1
        endpoint.out_seconds = seconds * (1 - _JITTER * self._chance())
        endpoint.back_at = self._clock() + endpoint.out_seconds
        _log.warning(
            "endpoint left out",
            service=self.name,
            endpoint=endpoint.address,
            failures=endpoint.failures,
            seconds=round(endpoint.out_seconds, 1),
        )

    def _due(self, now: float, key: bytes, *, safe: bool) -> Endpoint | None:
        """An endpoint that may show whether it works again. What cannot be repeated is put at risk, and a caller who is
        kept elsewhere is sent there, only if nothing else has come by for as long again; and a request that has told
        nothing for so long is not waited for."""
        own: Endpoint | None = None
        for each in self._out:
            since = now - each.back_at - each.out_seconds * each.probing
            if since < 0:
                continue
            if since >= each.out_seconds or (safe and not key):
                return each
            if safe and (own := own or self._chosen(self.endpoints, key)) is each:
                return each
        return None

    def _chosen(self, endpoints: tuple[Endpoint, ...] | list[Endpoint], key: bytes) -> Endpoint:
        number = len(endpoints)
        if number == 1:
            return endpoints[0]
        if key:
            # Rendezvous hashing: who is left out moves its own callers only, and they come back to it.
            return max(endpoints, key=lambda each: each.weight(key))
        chance = self._chance
        first = int(chance() * number)
        second = int(chance() * (number - 1))
        one, other = endpoints[first], endpoints[second + (second >= first)]
        return other if other.in_flight < one.in_flight else one

    def _begin(self, endpoint: Endpoint, *, probe: bool = False) -> Attempt:
        endpoint.in_flight += 1
        endpoint.requests += 1
        self.in_flight += 1
        return Attempt(self, endpoint, probe=probe)
