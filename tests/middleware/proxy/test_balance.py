"""Which endpoint is chosen, which are left out and how they come back, and how much is repeated: without a network."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.contracts.backends import Backend, BalancedBackend
from aggmw.contracts.balancing import Balancing
from aggmw.errors import UpstreamBusy
from aggmw.middleware.proxy.balance import WINDOW_SECONDS, Attempt, Balance, Budget, Endpoint


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Site:
    """Endpoints `e0`, `e1`, …, and what a test does with them."""

    def __init__(self, number: int, *, seed: int = 1, **options: Any) -> None:
        self.clock = Clock()
        backends = tuple(Backend("", f"e{each}", 80, tls=False) for each in range(number))
        chance = random.Random(seed).random
        self.balance = Balance(BalancedBackend("v1.a.io", backends, Balancing(**options)), self.clock, chance)
        self.endpoints = self.balance.endpoints

    def begin(self, key: bytes = b"", *, safe: bool = True) -> Attempt:
        return self.balance.first(key, safe=safe, now=self.clock.now)

    def fail(self, endpoint: Endpoint, times: int) -> None:
        """Requests that go there, and fail."""
        for _ in range(times):
            attempt = Attempt(self.balance, endpoint, probe=False)
            endpoint.in_flight += 1
            self.balance.in_flight += 1
            attempt.failed()
            attempt.over()

    def asked(self, requests: int, *, safe: bool = True) -> Counter[str]:
        """Where requests go that are over before the next one comes, and say nothing of the endpoint."""
        found: Counter[str] = Counter()
        for _ in range(requests):
            attempt = self.begin(safe=safe)
            found[attempt.endpoint.backend.host] += 1
            attempt.over()
        return found

    @property
    def out(self) -> list[str]:
        return [each.backend.host for each in self.endpoints if each.out]


# The choice


def test_everybody_is_asked_alike() -> None:
    """Where nothing is under way, chance alone decides."""
    found = Site(3).asked(3000)
    assert all(900 < number < 1100 for number in found.values())


def test_who_has_less_under_way_is_asked() -> None:
    """Of two, always; and of several, the one with the most never while others have less."""
    two = Site(2)
    held = two.begin()
    assert two.asked(20) == {next(each.backend.host for each in two.endpoints if each is not held.endpoint): 20}
    four = Site(4)
    four.endpoints[2].in_flight = 9
    assert set(four.asked(200)) == {"e0", "e1", "e3"}


@given(st.integers(2, 9), st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(0, 1000))
def test_what_is_under_way(number: int, ends: list[int], seed: int) -> None:
    """What is counted as under way is what is, and each ends once."""
    site = Site(number, seed=seed)
    open_: list[Attempt] = []
    for end in ends:
        open_.append(site.begin())
        if end < len(open_) and end % 2:
            open_.pop(end).over()
        counted = Counter(attempt.endpoint.backend.host for attempt in open_)
        assert {each.backend.host: each.in_flight for each in site.endpoints if each.in_flight} == counted
        assert site.balance.in_flight == len(open_)
    for attempt in open_:
        attempt.over()
        attempt.over()
    assert site.balance.in_flight == 0


def test_slow_endpoints_get_less() -> None:
    """One that takes ten times as long as the others does not get a third of the requests, but little."""
    site, chance = Site(3), random.Random(2)
    open_: list[tuple[float, Attempt]] = []
    asked: Counter[str] = Counter()
    for step in range(5000):
        open_ = [(end, attempt) for end, attempt in open_ if end > step or attempt.over()]
        while len(open_) < 12:
            attempt = site.begin()
            host = attempt.endpoint.backend.host
            asked[host] += 1
            open_.append((step + chance.expovariate(0.01 if host == "e1" else 0.1), attempt))
    assert asked["e1"] < 0.12 * asked.total()


# Who is left out


def test_out_after_failures_in_a_row() -> None:
    """The last of them does it; a success in between begins the row anew."""
    site = Site(3, failures=3)
    first, *_ = site.endpoints
    site.fail(first, 2)
    attempt = Attempt(site.balance, first, probe=False)
    attempt.succeeded()
    site.fail(first, 2)
    assert site.out == []
    site.fail(first, 1)
    assert site.out == ["e0"]
    assert set(site.asked(50)) == {"e1", "e2"}


@pytest.mark.parametrize(
    ("number", "share", "most"),
    [(1, 1.0, 0), (2, 0.5, 1), (3, 0.5, 2), (4, 0.5, 2), (5, 0.5, 3), (5, 0.2, 1), (5, 1.0, 4), (5, 0.0, 0)],
)
def test_at_most_a_share_is_out(number: int, share: float, most: int) -> None:
    """However many fail, so many are left out, and never the last one."""
    site = Site(number, failures=2, eject_share=share)
    for _ in range(3):
        for endpoint in site.endpoints:
            site.fail(endpoint, 2)
    assert len(site.out) == most


@given(st.integers(1, 8), st.floats(0, 1), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), max_size=150))
def test_the_cap_holds_whatever_happens(number: int, share: float, events: list[tuple[int, int]]) -> None:
    """Failures, successes and time in any order: somebody is always in, no more are out than may be, and whoever is
    asked although left out is asked to find out how it is, or because nobody works."""
    site = Site(number, failures=2, eject_share=share)
    for who, what in events:
        endpoint = site.endpoints[who % number]
        if what == 0:
            site.fail(endpoint, 1)
        elif what == 1:
            Attempt(site.balance, endpoint, probe=False).succeeded()
        elif what == 2:
            site.clock.now += 7.0
        desperate = site.balance.desperate
        attempt = site.begin()
        assert not attempt.endpoint.out or attempt.probe or desperate
        attempt.over()
        assert len(site.out) <= min(number - 1, -(-number * share // 1))


def test_what_began_before_says_nothing_afterwards() -> None:
    """Old requests that fail do not keep it out longer, and one that succeeds at last does not bring it back."""
    site = Site(2, failures=1)
    first = site.endpoints[0]
    old = [Attempt(site.balance, first, probe=False) for _ in range(3)]
    site.fail(first, 1)
    back_at = first.back_at
    old[0].succeeded()
    assert site.out == ["e0"]
    old[1].failed()
    assert (first.back_at, first.ejections) == (back_at, 1)
    site.clock.now = first.back_at
    probe = site.begin()
    probe.succeeded()
    old[2].failed()
    assert site.out == []


# The way back


def test_one_request_finds_out() -> None:
    """After its time, one request goes there, and no other until it is over; its success restores the endpoint."""
    site = Site(2, failures=1)
    first = site.endpoints[0]
    site.fail(first, 1)
    site.clock.now = first.back_at - 0.01
    assert set(site.asked(10)) == {"e1"}
    site.clock.now = first.back_at
    probe = site.begin()
    assert (probe.endpoint, probe.probe) == (first, True)
    assert set(site.asked(10)) == {"e1"}
    probe.succeeded()
    probe.over()
    assert site.out == []
    assert set(site.asked(100)) == {"e0", "e1"}


def test_a_request_that_ends_without_a_word() -> None:
    """Its client left: the next one finds out."""
    site = Site(2, failures=1)
    site.fail(site.endpoints[0], 1)
    site.clock.now = site.endpoints[0].back_at
    site.begin().over()
    assert site.begin().probe


def test_only_safe_requests_find_out() -> None:
    """What cannot be repeated is not put at risk, unless nothing else comes by."""
    site = Site(2, failures=1)
    first = site.endpoints[0]
    site.fail(first, 1)
    site.clock.now = first.back_at
    assert set(site.asked(20, safe=False)) == {"e1"}
    site.clock.now = first.back_at + first.out_seconds
    assert site.begin(safe=False).endpoint is first


def test_a_request_that_does_not_end_is_not_waited_for() -> None:
    """One that has told nothing for as long as the endpoint was left out keeps no other from finding out."""
    site = Site(2, failures=1)
    first = site.endpoints[0]
    site.fail(first, 1)
    site.clock.now = first.back_at
    hung = site.begin()
    assert hung.probe
    site.clock.now += first.out_seconds - 0.01
    assert set(site.asked(10)) == {"e1"}
    site.clock.now += 0.01
    other = site.begin()
    assert (other.endpoint, other.probe) == (first, True)
    other.succeeded()
    assert site.out == []


def test_callers_who_are_kept_elsewhere_do_not_find_out() -> None:
    """A caller who is kept at an endpoint finds out about that one only, unless nobody of its own comes by."""
    site = Site(3, failures=1)
    first = site.endpoints[0]
    home = {}
    for key in (b"user:%d" % number for number in range(20)):
        attempt = site.begin(key)
        home.setdefault(attempt.endpoint, key)
        attempt.over()
    site.fail(first, 1)
    site.clock.now = first.back_at
    for endpoint in site.endpoints[1:]:
        assert site.begin(home[endpoint]).endpoint is endpoint
    assert site.begin(home[first]).probe
    site.clock.now += 2 * first.out_seconds
    assert site.begin(home[site.endpoints[1]]).endpoint is first


def test_many_left_out_cost_a_kept_caller_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """How a caller's own endpoint is found does not cost more, the more of them are left out or due."""
    site = Site(40, failures=1)
    for endpoint in site.endpoints[:16]:
        site.fail(endpoint, 1)
    weighed = 0
    weight = Endpoint.weight

    def counted(endpoint: Endpoint, key: bytes) -> bytes:
        nonlocal weighed
        weighed += 1
        return weight(endpoint, key)

    monkeypatch.setattr(Endpoint, "weight", counted)
    home = next(b"user:%d" % each for each in range(9) if not site.begin(b"user:%d" % each).endpoint.out)
    for most in (40, 80):  # while they are left out, and while all of them are due
        weighed = 0
        site.begin(home)
        assert weighed <= most
        site.clock.now = max(endpoint.back_at for endpoint in site.endpoints)


def test_longer_each_time_and_not_in_step() -> None:
    """Twice as long after each failure, up to the longest, and up to a fifth less; anew after a long good time."""
    site = Site(2, failures=1, eject_seconds=10, eject_longest_seconds=60)
    first = site.endpoints[0]
    site.fail(first, 1)
    for seconds in (10, 20, 40, 60, 60):
        assert 0.8 * seconds <= first.out_seconds <= seconds
        site.clock.now = first.back_at
        probe = site.begin()
        probe.failed()
        probe.over()
    site.clock.now = first.back_at
    site.begin().succeeded()
    site.clock.now += 59
    site.fail(first, 1)
    assert first.out_seconds > 40
    site.clock.now = first.back_at
    site.begin().succeeded()
    site.clock.now += 60
    site.fail(first, 1)
    assert first.out_seconds <= 10
    lengths = set()
    for seed in range(5):
        other = Site(2, seed=seed, failures=1)
        other.fail(other.endpoints[0], 1)
        lengths.add(other.endpoints[0].out_seconds)
    assert len(lengths) == 5


def test_a_thousand_failures_in_a_row() -> None:
    """The time is the longest, and no number overflows."""
    site = Site(2, failures=1)
    site.fail(site.endpoints[0], 1)
    for _ in range(1200):
        site.clock.now = site.endpoints[0].back_at
        site.begin().failed()
    assert site.endpoints[0].out_seconds <= 300


def test_all_are_asked_when_none_works() -> None:
    """Nobody is better than another then; and the first that works is in again at once."""
    site = Site(3, failures=1)
    for endpoint in site.endpoints:
        site.fail(endpoint, 1)
    assert len(site.out) == 2
    assert site.balance.desperate
    assert set(site.asked(100)) == {"e0", "e1", "e2"}
    assert sum(each.desperate for each in site.endpoints) > 50
    attempt = next(each for each in iter(site.begin, None) if each.endpoint.out)
    attempt.succeeded()
    assert not site.balance.desperate
    assert attempt.endpoint.backend.host not in site.out


# Another one


def test_another_was_not_asked() -> None:
    """Never one that was tried, nor one that is left out; None when there is no other."""
    site = Site(3, failures=1)
    site.fail(site.endpoints[2], 1)
    first = site.begin()
    second = site.balance.another(b"", [first.endpoint])
    assert second is not None
    assert {first.endpoint.backend.host, second.endpoint.backend.host} == {"e0", "e1"}
    assert site.balance.another(b"", [first.endpoint, second.endpoint]) is None


# Callers that stay


def test_callers_stay() -> None:
    """By their key they come to the same endpoint, evenly spread over all; one that is left out moves its own callers
    only, and they come back to it."""
    site = Site(4, failures=1)
    keys = [f"user:{number}".encode() for number in range(2000)]

    def homes() -> list[str]:
        found = []
        for key in keys:
            attempt = site.begin(key)
            found.append(attempt.endpoint.backend.host)
            attempt.over()
        return found

    before = homes()
    assert before == homes()
    assert all(400 < number < 600 for number in Counter(before).values())
    site.fail(site.endpoints[1], 1)
    moved = homes()
    assert all(old == new for old, new in zip(before, moved, strict=True) if old != "e1")
    assert set(Counter(new for old, new in zip(before, moved, strict=True) if old == "e1")) == {"e0", "e2", "e3"}
    site.clock.now = site.endpoints[1].back_at
    site.begin().succeeded()
    assert homes() == before


def test_every_process_has_the_same_homes() -> None:
    """The order in which endpoints are named, and the process, make no difference."""
    backends = [Backend("", f"e{each}", 80, tls=False) for each in range(3)]
    chosen = []
    for order in (backends, backends[::-1]):
        balance = Balance(BalancedBackend("x", tuple(order)), Clock(), random.Random(1).random)
        chosen.append([balance.first(b"user:%d" % n, safe=True, now=0.0).endpoint.backend.host for n in range(30)])
    assert chosen[0] == chosen[1]
    assert "".join(each[1] for each in chosen[0][:12]) == "202200202121"


# How many


def test_so_many_at_most_are_under_way() -> None:
    """One more is refused at once, over all endpoints together."""
    site = Site(2, requests=3)
    held = []
    for _ in range(3):
        site.balance.admit(0.0)
        held.append(site.begin())
    with pytest.raises(UpstreamBusy, match="too many requests are under way"):
        site.balance.admit(0.0)
    assert site.balance.refused == 1
    held.pop().over()
    site.balance.admit(0.0)


@given(
    st.floats(0, 1),
    st.floats(0, 20),
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 30), st.integers(0, 40)), max_size=80),
)
def test_the_budget_holds(share: float, per_second: float, steps: list[tuple[float, int, int]]) -> None:
    """In any ten seconds, no more is repeated than the share of the requests of twenty, and what is always allowed."""
    budget = Budget(share, per_second, 0.0)
    now = 0.0
    requests: list[float] = []
    repeated: list[float] = []
    for passed, new, wanted in steps:
        now += passed
        for _ in range(new):
            budget.note(now)
            requests.append(now)
        repeated += [now for _ in range(wanted) if budget.take(now)]
        recently = sum(1 for each in repeated if each > now - WINDOW_SECONDS)
        since = sum(1 for each in requests if each > now - 2 * WINDOW_SECONDS)
        assert recently <= per_second * WINDOW_SECONDS + share * since + 1e-6


def test_the_budget_grows_with_the_requests() -> None:
    """A fifth of a thousand requests; and nothing of what was long ago."""
    budget = Budget(0.2, 0.0, 0.0)
    assert not budget.take(0.0)
    for _ in range(1000):
        budget.note(1.0)
    assert sum(budget.take(2.0) for _ in range(1000)) == 200
    assert not budget.left(11.0)
    assert not budget.left(40.0)
    idle = Budget(0.2, 0.0, 0.0)
    for _ in range(1000):
        idle.note(1.0)
    assert idle.left(11.0)
    assert not idle.left(40.0)


# What is shown


def test_the_state_can_be_read() -> None:
    """Each endpoint by its address, what is under way there, and how it is."""
    site = Site(3, failures=2)
    site.fail(site.endpoints[0], 2)
    site.fail(site.endpoints[1], 1)
    site.endpoints[2].in_flight = 4
    seconds = f"{site.endpoints[0].out_seconds:.0f}"
    assert repr(site.balance) == (
        f"<Balance v1.a.io: e0:80 (0 in flight, left out for {seconds} s), e1:80 (0 in flight, 1 failures),"
        " e2:80 (4 in flight)>"
    )
