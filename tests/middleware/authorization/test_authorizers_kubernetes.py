"""Webhook authorizers beside Kubernetes' own code: 1,500 files and 2,500 questions, recorded from it.

`tests/peers/authorizers` says how they were.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from aggmw.contracts.authorization import Attributes, Outcome
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import ConfigurationError, UpstreamBroken
from aggmw.middleware.authorization import AllowAll, AuthorizationConfiguration, SubjectAccessReviewWebhook
from aggmw.net.kubeconfig import Remote
from aggmw.net.webhooks import Webhook
from aggmw.objects.attributes import attributes_of

OUTCOMES = (Outcome.DENY, Outcome.ALLOW, Outcome.NO_OPINION)
KUBECONFIG = {
    "current-context": "a",
    "contexts": [{"name": "a", "context": {"cluster": "a"}}],
    "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:9/"}}],
}


@cache
def recorded() -> dict[str, list[dict[str, Any]]]:
    path = Path(__file__).parents[2] / "data/authorizers.json.gz"
    cases: dict[str, list[dict[str, Any]]] = json.loads(gzip.decompress(path.read_bytes()))
    return cases


def wrong(directory: Path, file: dict[str, Any]) -> set[str]:
    """The fields that we call wrong, by the paths that Kubernetes has for them."""
    kubeconfig, path = directory / "kubeconfig", directory / "authz.json"
    kubeconfig.write_text(json.dumps(KUBECONFIG))
    text = json.dumps(file)
    path.write_text(text.replace("KUBECONFIG", str(kubeconfig)))
    try:
        AuthorizationConfiguration.load(path, known={"RBAC": AllowAll()} if '"RBAC"' in text else {})
    except ConfigurationError as error:
        found = (str(each.path).rpartition(": ")[2] for each in error.problems)
        return {
            # Kubernetes leaves out where the fields of a webhook are; a kubeconfig that is not there has its own path.
            "authorizers[?].connectionInfo.kubeConfigFile" if "nowhere" in each else each.replace(".webhook.", ".")
            for each in found
        }
    return set()


def test_files(tmp_path: Path) -> None:
    """The same files are good, and the same fields of the others are wrong, where Kubernetes still looked at them."""
    kinds: Counter[str] = Counter()
    for case in recorded()["files"]:
        theirs, ours = set(case["wrong"]), wrong(tmp_path, case["file"])
        text = json.dumps(case["file"])
        if case.get("unreadable"):
            kinds["unreadable"] += 1
            # An empty lifetime is an absent one for us, as an empty field is everywhere.
            assert ours or re.search(r'"(un)?authorizedTTL": null', text), text
            continue
        kinds["wrong" if theirs else "good"] += 1
        if "authorizers[?].connectionInfo.kubeConfigFile" in ours:
            ours = {each for each in ours if "[?]" not in each} | {
                each for each in theirs if each.endswith("kubeConfigFile")
            }
        # Behind a wrong type they do not look at the rest of an entry.
        given_up = {each.removesuffix("type") for each in theirs if re.fullmatch(r"authorizers\[\d\]\.type", each)}
        unseen = {entry_of(case, each).get("name") for each in given_up}
        more = {
            each
            for each in ours - theirs
            if not each.startswith(tuple(given_up))
            and not (each.endswith("].name") and entry_of(case, each).get("name") in unseen)
        }
        assert (theirs - ours, more) == (set(), set()), text
    assert min(kinds["unreadable"], kinds["wrong"], kinds["good"]) > 200


def entry_of(case: dict[str, Any], path: str) -> dict[str, Any]:
    number = re.match(r"authorizers\[(\d)\]", path)
    assert number is not None
    entry: dict[str, Any] = case["file"]["authorizers"][int(number[1])]
    return entry


class Answers(Webhook):
    """A webhook that answers as it was recorded."""

    def __init__(self, status: dict[str, Any], code: int) -> None:
        super().__init__(Remote("http://127.0.0.1:9", None))
        self.asked: dict[str, Any] | None = None
        self._status = status
        self._code = code

    async def ask(self, value: Mapping[str, Any]) -> dict[str, Any]:
        self.asked = value["spec"]
        if self._code >= 300:
            raise UpstreamBroken(f"the webhook answered {self._code}")
        return {**value, "status": self._status}


def asked_by(case: dict[str, Any]) -> Attributes:
    identity = Identity(case["user"], case.get("uid", ""), tuple(case["groups"]), case.get("extra", {}))
    path, verb = case.get("path", "/x"), case["verb"]
    info = RequestInfo("path" not in case, verb, "GET", path, path.encode())
    if "path" not in case:
        info = info._replace(
            api_group=case.get("group", ""),
            api_version=case["version"],
            resource=case["resource"],
            subresource=case.get("sub", ""),
            namespace=case.get("namespace", ""),
            name=case.get("name", ""),
            field_selector=case.get("fields", ""),
            label_selector=case.get("labels", ""),
        )
    return attributes_of(identity, info)


def plain(spec: dict[str, Any] | None) -> Any:
    """A spec with its requirements in one order, each with its values in one."""
    if spec is None:
        return None
    spec = json.loads(json.dumps(spec))
    for selector in ("fieldSelector", "labelSelector"):
        found = spec.get("resourceAttributes", {}).get(selector)
        if found:
            for each in found["requirements"]:
                each["values"] = sorted(set(each.get("values") or ()))
            found["requirements"].sort(key=json.dumps)
    return spec


async def test_questions() -> None:
    """The same requests are asked about, in the same words; answers and conditions come to the same decisions."""
    kinds: Counter[tuple[int, bool, bool]] = Counter()
    for case in recorded()["questions"]:
        await asyncio.sleep(0)  # thousands of them in one go would block the loop
        webhook = Answers(case["status"], case["code"])
        authorizer = SubjectAccessReviewWebhook(
            webhook, version=case["review"], on_failure=case["policy"], match_conditions=case["conditions"]
        )
        verdict = await authorizer.authorize(asked_by(case))
        text = json.dumps(case)
        assert plain(webhook.asked) == plain(case["asked"]), text
        failed = case.get("failed", False)
        assert (verdict.outcome, bool(verdict.error)) == (OUTCOMES[case["decision"]], failed), text
        assert verdict.reason == case.get("reason", ""), text
        kinds[case["decision"], failed, case["asked"] is not None] += 1
    assert len(kinds) == 8
    assert min(kinds.values()) > 20


@pytest.mark.parametrize("ttl", ["authorizedTTL", "unauthorizedTTL"])
def test_no_lifetime_at_all(tmp_path: Path, ttl: str) -> None:
    """A difference on purpose: `0s` is no way to write the default, as Kubernetes reads it, nor for ever."""
    fields = {
        **{"timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny", ttl: "0s"},
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "KUBECONFIG"},
    }
    file = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [{"type": "Webhook", "name": "w", "webhook": fields}],
    }
    assert wrong(tmp_path, file) == {f"authorizers[0].{ttl}"}
