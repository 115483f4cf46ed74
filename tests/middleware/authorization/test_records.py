"""What came of loading a policy is told: in `/readyz`, and by figures."""

from __future__ import annotations

from aggmw.middleware.authorization.records import LoadRecord
from aggmw.middleware.discovery.health import Health


def figures(record: LoadRecord) -> dict[str, float]:
    return {
        " ".join((sample.name.removeprefix("aggmw_authorization_policy_"), *(value for _, value in sample.labels[1:]))):
            sample.value
        for sample in record.samples()
    }  # fmt: skip


def test_before_the_first() -> None:
    """Nothing was loaded: not ready, and no figure that would look like a policy."""
    record = LoadRecord("authorization-policy", "policy.csv")
    assert Health("readyz", [record]).answer(b"").status == 500
    record.failed()
    assert Health("readyz", [record]).answer(b"").status == 500
    assert figures(record) == {"reloads_total success": 0, "reloads_total failure": 1, "stale": 1}


def test_loaded_and_stale_and_loaded_again() -> None:
    """A broken successor is shown, and does not take the server away from its clients."""
    now = 100.0
    record = LoadRecord("authorization-policy", "policy.csv", clock=lambda: now)
    health = Health("readyz", [record])
    record.succeeded("abc", 7)
    assert health.answer(b"verbose").body == b"[+]authorization-policy ok: revision abc\nreadyz check passed\n"
    record.failed()
    now = 200.0
    assert health.answer(b"") == health.single("authorization-policy")
    assert health.answer(b"verbose").body == (
        b"[+]authorization-policy ok: revision abc, stale: what is there now cannot be used\nreadyz check passed\n"
    )
    expected = {"reloads_total success": 1, "reloads_total failure": 1, "stale": 1, "rules": 7}
    assert figures(record) == {**expected, "last_success_timestamp_seconds": 100, "revision_info abc": 1}
    assert repr(record) == "LoadRecord('authorization-policy', 'abc', stale)"
    record.succeeded("def", 8)
    expected = {"reloads_total success": 2, "reloads_total failure": 1, "stale": 0, "rules": 8}
    assert figures(record) == {**expected, "last_success_timestamp_seconds": 200, "revision_info def": 1}
    assert {sample.labels[0] for sample in record.samples()} == {("policy", "policy.csv")}
