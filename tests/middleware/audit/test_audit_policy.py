"""Audit policies: Kubernetes' file read as it is, the first rule that fits, and every mistake with its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aggmw.contracts.audit import AuditLevel
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import ConfigurationError
from aggmw.middleware.audit import AuditPolicy

ALICE = Identity("alice", groups=("dev", "system:authenticated"))
HEALTH = RequestInfo(False, "get", "GET", "/healthz/ping", b"/healthz/ping")


def asked(verb: str = "get", resource: str = "pods", **fields: Any) -> RequestInfo:
    return RequestInfo(True, verb, "GET", "/x", b"/x", "api", resource=resource, api_version="v1", **fields)


def policy(*rules: dict[str, Any], **top: Any) -> AuditPolicy:
    return AuditPolicy({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **top})


# What `k8s.io/website` gives as its example, shortened to one rule of each kind.
EXAMPLE = """\
apiVersion: audit.k8s.io/v1 # This is required.
kind: Policy
# Don't generate audit events for all requests in RequestReceived stage.
omitStages:
  - "RequestReceived"
rules:
  - level: RequestResponse
    resources:
    - group: ""
      resources: ["pods"]
  - level: Metadata
    resources:
    - group: ""
      resources: ["pods/log", "pods/status"]
  - level: None
    resources:
    - group: ""
      resources: ["configmaps"]
      resourceNames: ["controller-leader"]
  - level: None
    users: ["system:kube-proxy"]
    verbs: ["watch"]
    resources:
    - group: "" # core API group
      resources: ["endpoints", "services"]
  - level: None
    userGroups: ["system:authenticated"]
    nonResourceURLs:
    - "/api*" # Wildcard matching.
    - "/version"
  - level: Request
    resources:
    - group: "" # core API group
      resources: ["configmaps"]
    # The empty string "" can be used to select non-namespaced resources.
    namespaces: ["kube-system"]
  - level: Metadata
    omitStages:
      - "ResponseStarted"
"""


@pytest.mark.parametrize(
    ("info", "level"),
    [
        (asked(), "RequestResponse"),
        (asked(subresource="log"), "Metadata"),
        (asked(resource="configmaps", name="controller-leader", namespace="kube-system"), "None"),
        (asked(resource="configmaps", name="other", namespace="kube-system"), "Request"),
        (asked(resource="configmaps", name="other", namespace="dev"), "Metadata"),
        (asked("watch", "endpoints"), "Metadata"),
        (HEALTH._replace(path="/apis/x"), "None"),
        (HEALTH._replace(path="/versions"), "Metadata"),
    ],
)
def test_example_of_kubernetes(tmp_path: Path, info: RequestInfo, level: str) -> None:
    """The file of Kubernetes' documentation loads, and means what it says there."""
    file = tmp_path / "policy.yaml"
    file.write_text(EXAMPLE)
    recorded = AuditPolicy.load(file).recorded(ALICE, info)
    assert recorded.level.word == level
    assert recorded.level is AuditLevel.NONE or "RequestReceived" in recorded.omitted


@pytest.mark.parametrize(
    ("rule", "info", "fits"),
    [
        ({"users": ["alice"]}, asked(), True),
        ({"users": ["bob"]}, asked(), False),
        ({"userGroups": ["ops", "dev"]}, asked(), True),
        ({"verbs": ["list"]}, asked(), False),
        ({"namespaces": [""]}, asked(), True),
        ({"namespaces": [""]}, asked(namespace="dev"), False),
        ({"namespaces": ["dev"]}, HEALTH, False),
        ({"resources": [{"group": ""}]}, asked(), True),
        ({"resources": [{"group": "apps"}]}, asked(), False),
        ({"resources": [{"resources": ["pods"]}]}, asked(subresource="log"), False),
        ({"resources": [{"resources": ["*"]}]}, asked(subresource="log"), True),
        ({"resources": [{"resources": ["pods/*"]}]}, asked(subresource="log"), True),
        ({"resources": [{"resources": ["*/log"]}]}, asked(subresource="log"), True),
        ({"resources": [{"resources": ["*/log"]}]}, asked(), False),
        ({"nonResourceURLs": ["*"]}, HEALTH, True),
        ({"nonResourceURLs": ["*"]}, asked(), False),
        ({"nonResourceURLs": ["/healthz"]}, HEALTH, False),
        ({"nonResourceURLs": ["/healthz*"]}, HEALTH, True),
    ],
)
def test_rule(rule: dict[str, Any], info: RequestInfo, fits: bool) -> None:
    """What a rule is about is what Kubernetes says it is about."""
    assert (policy({"level": "Metadata", **rule}).recorded(ALICE, info).level is AuditLevel.METADATA) is fits


def test_first_rule_decides_and_no_rule_records_nothing() -> None:
    """The order of the file counts; what no rule is about leaves no trace."""
    two = policy({"level": "None", "verbs": ["get"]}, {"level": "Request", "verbs": ["get", "list"]})
    assert two.recorded(ALICE, asked("get")).level is AuditLevel.NONE
    assert two.recorded(ALICE, asked("list")).level is AuditLevel.REQUEST
    assert two.recorded(ALICE, asked("watch")).level is AuditLevel.NONE


def test_unknown_caller_fits_no_rule_about_users() -> None:
    """Whom authentication refused is nobody: rules about users and groups are not about them."""
    rules = policy({"level": "None", "users": ["alice"]}, {"level": "None", "userGroups": ["a"]}, {"level": "Metadata"})
    assert rules.recorded(None, asked()).level is AuditLevel.METADATA


def test_stages_and_managed_fields_are_inherited() -> None:
    """`omitStages` of file and rule add up; `omitManagedFields` of a rule replaces the file's."""
    top = {"omitStages": ["RequestReceived"], "omitManagedFields": True}
    first = policy({"level": "Request", "omitStages": ["Panic"]}, **top).recorded(ALICE, asked())
    assert (first.omitted, first.omit_managed_fields) == ({"RequestReceived", "Panic"}, True)
    assert (
        not policy({"level": "Request", "omitManagedFields": False}, **top).recorded(ALICE, asked()).omit_managed_fields
    )


def test_every_mistake_has_its_path() -> None:
    """All mistakes of a file come in one pass, each with where it is and what to write."""
    values = {
        "apiVersion": "audit.k8s.io/v2",
        "kind": "AuditPolicy",
        "rule": [],
        "omitStages": ["Received"],
        "rules": [
            {"level": "All", "verb": ["get"], "users": "alice"},
            {"level": "Metadata", "nonResourceURLs": ["api", "/a*b"], "namespaces": ["dev"]},
            {"level": "Metadata", "resources": [{"group": "apps/v1", "resourceNames": ["x"]}, "pods"]},
            "Metadata",
        ],
    }
    with pytest.raises(ConfigurationError) as caught:
        AuditPolicy(values, where="p.yaml")
    assert str(caught.value).splitlines() == [
        "p.yaml: rule: is not a known key; known here: apiVersion, kind, metadata,"
        " omitManagedFields, omitStages, rules",
        "p.yaml: apiVersion: must be audit.k8s.io/v1",
        "p.yaml: kind: must be Policy",
        "p.yaml: omitStages[0]: must be one of RequestReceived, ResponseStarted, ResponseComplete, Panic",
        "p.yaml: rules[0].verb: is not a known key; known here: level, namespaces, nonResourceURLs, omitManagedFields,"
        " omitStages, resources, userGroups, users, verbs",
        "p.yaml: rules[0].level: must be one of None, Metadata, Request, RequestResponse",
        "p.yaml: rules[0].users: must be a list of texts",
        "p.yaml: rules[1]: cannot have nonResourceURLs beside resources or namespaces: make it two rules",
        'p.yaml: rules[1].nonResourceURLs[0]: must be "*", or begin with / and have * only at its end',
        'p.yaml: rules[1].nonResourceURLs[1]: must be "*", or begin with / and have * only at its end',
        "p.yaml: rules[2].resources[0].group: must be an API group without a version, such as apps;"
        ' "" is the core group',
        "p.yaml: rules[2].resources[0].resourceNames: needs resources beside it",
        "p.yaml: rules[2].resources[1]: must be a mapping with group, resources and resourceNames",
        "p.yaml: rules[3]: must be a mapping with a level",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "policy.yaml: holds 0 documents; an audit policy is one"),
        ("apiVersion: audit.k8s.io/v1\nkind: Policy\n", "policy.yaml: rules: must be a list of at least one rule"),
        ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {}\n", "rules: must be a list of at least one rule"),
        ("[]", "policy.yaml: must be a Policy"),
        ("a: [", "is not YAML"),
        ("a: 1\na: 2\n", "repeats the key"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, complaint: str) -> None:
    """A file that is no policy is refused; one without rules, too: nothing would be recorded."""
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=complaint.replace("[", r"\[")):
        AuditPolicy.load(file)


def test_missing_file(tmp_path: Path) -> None:
    """Which file cannot be read, and why."""
    with pytest.raises(ConfigurationError, match=r"nowhere.yaml: cannot be read: No such file"):
        AuditPolicy.load(tmp_path / "nowhere.yaml")
