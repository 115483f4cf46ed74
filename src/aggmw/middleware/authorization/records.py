"""What came of loading a policy, time after time: a line of `/readyz`, and figures for `/metrics`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from aggmw.contracts.metrics import Sample

__all__ = ["LoadRecord"]

_PREFIX = "aggmw_authorization_policy"


class LoadRecord:
    """How often a policy was loaded and how often not, and what is in force. A `Check` and a `Source`.

    While what was loaded last is in force although its successor is broken, the check is well, and says so: a server
    that went away for a slip of the pen would take its clients along. Before anything was ever loaded it fails.

    Args:
        name: of the check.
        policy: what the figures call the policy.
        clock: the time of day.
    """

    def __init__(self, name: str, policy: str, *, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.revision = ""
        self.stale = False
        self._policy = policy
        self._clock = clock
        self._rules = 0
        self._succeeded = self._failed = 0
        self._at = 0.0

    def __repr__(self) -> str:
        return f"LoadRecord({self.name!r}, {self.revision!r}{', stale' if self.stale else ''})"

    def succeeded(self, revision: str, rules: int) -> None:
        """A revision is in force."""
        self.revision, self._rules, self.stale = revision, rules, False
        self._succeeded += 1
        self._at = self._clock()

    def failed(self) -> None:
        """What is there now cannot be used; what was loaded before stays in force."""
        self._failed += 1
        self.stale = True

    def check(self) -> str | None:
        return None if self.revision else f"no revision of {self._policy} was loaded yet"

    def note(self) -> str:
        """What is in force."""
        stale = ", stale: what is there now cannot be used" if self.stale else ""
        return f"revision {self.revision}{stale}"

    def samples(self) -> Iterator[Sample]:
        labels = (("policy", self._policy),)
        loads = "Times that the policy was loaded, the first included, by whether it could be used."
        yield Sample(f"{_PREFIX}_reloads_total", loads, "counter", (*labels, ("result", "success")), self._succeeded)
        yield Sample(f"{_PREFIX}_reloads_total", loads, "counter", (*labels, ("result", "failure")), self._failed)
        stale = "Whether an older revision is in force, because the policy cannot be used as it is now."
        yield Sample(f"{_PREFIX}_stale", stale, "gauge", labels, float(self.stale))
        if self.revision:
            at = "When the policy was last loaded, in seconds since 1970."
            yield Sample(f"{_PREFIX}_last_success_timestamp_seconds", at, "gauge", labels, self._at, apart=True)
            rules = "Rows of the policy that is in force."
            yield Sample(f"{_PREFIX}_rules", rules, "gauge", labels, self._rules, apart=True)
            revision = "1 for the revision in force; of several workers, how many decide by it."
            yield Sample(f"{_PREFIX}_revision_info", revision, "gauge", (*labels, ("revision", self.revision)), 1)
