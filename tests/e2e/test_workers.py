"""Real kubectl against several workers: a policy that changes on disk, and restarts meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import Kubectl, put
from tests.ports import free_port
from tests.server.workers.conftest import SERVE, Workers, eventually

from aggmw.server.kubeconfig import Access, render_kubeconfig

CONFIGURATION = """\
grace: 5s
authentication: {tokenFile: tokens.csv}
authorization: {policy: policy.csv}
"""
WORKERS = 3


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Workers]:
    """Three workers, and a policy that allows alice nothing that matters."""
    (tmp_path / "config.yaml").write_text(CONFIGURATION)
    (tmp_path / "tokens.csv").write_text('secret,admin,1,"system:masters"\nhers,alice,2,\n')
    (tmp_path / "policy.csv").write_text("p2, user:alice, get, /healthz\n")
    served = Workers(tmp_path, free_port(), WORKERS, SERVE)
    served.up(*range(1, WORKERS + 1))
    yield served
    served.clean()


@pytest.fixture
def alice(served: Workers, kubectl_program: Path, tmp_path: Path) -> Kubectl:
    """kubectl with her token."""
    kubeconfig = tmp_path / "alice.kubeconfig"
    authority = (tmp_path / ".aggmw" / "serving-ca.crt").read_bytes()
    kubeconfig.write_bytes(
        render_kubeconfig(Access(f"https://127.0.0.1:{served.port}", authority, "alice", token="hers"))
    )
    kubeconfig.chmod(0o600)
    home = tmp_path / "home"
    home.mkdir()
    return Kubectl(kubectl_program, kubeconfig, home)


def revisions(served: Workers) -> dict[str, float]:
    """How many workers decide by which revision of the policy, once all of them say so."""
    while True:
        samples = served.figures().of("aggmw_authorization_policy_revision_info")
        found = {sample.labels["revision"]: sample.value for sample in samples}
        if sum(found.values()) == WORKERS:
            return found


def test_policy_takes_effect_in_all_workers(served: Workers, alice: Kubectl) -> None:
    """A policy that is edited on disk counts in every worker by itself; a broken one in none."""
    old = revisions(served)
    assert "forbidden" in alice.fails("get", "--raw", "/version")
    put(served.path / "policy.csv", "p2, user:alice, get, /version\n")
    eventually(lambda: not old.keys() & revisions(served).keys())
    found = revisions(served)
    assert (len(old), len(found)) == (1, 1)
    for _ in range(3 * WORKERS):
        assert "gitVersion" in alice("get", "--raw", "/version")
    put(served.path / "policy.csv", "nonsense\n")
    said = [served.until("not reloaded") for _ in range(WORKERS)]
    assert {line["worker"] for line in said} == set(range(1, WORKERS + 1))
    assert {line["path"] for line in said} == {"policy.csv:1"}
    assert revisions(served) == found
    assert "gitVersion" in alice("get", "--raw", "/version")
    assert served.stop() == 0


def test_rolling_restart(served: Workers, alice: Kubectl) -> None:
    """kubectl notices nothing of restarts, and meets the new policy after them."""
    put(served.path / "policy.csv", "p2, user:alice, get, /version\n")
    served.signal(signal.SIGHUP)
    served.until("restarted")
    asked = 0

    def restart() -> None:
        restarts = 0
        while restarts < 2 or asked < 6:
            served.signal(signal.SIGHUP)
            served.until("restarted")
            restarts += 1

    restarting = threading.Thread(target=restart)
    restarting.start()
    while restarting.is_alive():
        assert "gitVersion" in alice("get", "--raw", "/version")
        asked += 1
    restarting.join()
    assert asked > 5
    assert served.stop() == 0
