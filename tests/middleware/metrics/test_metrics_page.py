"""`docs/reference/metrics.md` says the truth: its table is what the page has, its labels and bounds are the code's."""

from __future__ import annotations

import os
import re
from pathlib import Path

from joserfc.jwk import ECKey
from tests.middleware.metrics.figures import Figures

from aggmw import FrontProxy, PathService
from aggmw.contracts.authorization import Attributes
from aggmw.contracts.backends import RESERVED
from aggmw.contracts.identity import Identity
from aggmw.middleware.audit import Audit, AuditLog, AuditPolicy
from aggmw.middleware.authentication import Anonymous, ServiceAccounts, StaticAccounts, TokenCache
from aggmw.middleware.authorization import CasbinAuthorizer, ConfiguredAuthorizers, SubjectAccessReviewWebhook, Union
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.metrics.book import DURATIONS, OTHER
from aggmw.middleware.metrics.families import FAMILIES
from aggmw.middleware.metrics.labels import SUBRESOURCES, VERBS
from aggmw.net.kubeconfig import Remote
from aggmw.net.webhooks import Webhook
from aggmw.testing import Client, ScriptedBackend, respond

SIGNING_KEY = ECKey.generate_key("P-256").as_pem(private=True)
PAGE = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text(encoding="utf-8")
PYTHON = {"implementation", "major", "minor", "patchlevel"}
Shown = dict[str, tuple[str, frozenset[str], str]]


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of a section's table."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def documented() -> Shown:
    return {
        name.strip("`"): (kind, frozenset(labels.replace("`", "").split()), meaning)
        for name, kind, labels, meaning in rows("Every metric")
    }


ORDER = """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers: [{type: AlwaysAllow, name: all}]
"""


async def exposed(place: Path) -> Shown:
    """What a front proxy shows that has forwarded a request."""
    (place / "order.yaml").write_text(ORDER)
    metrics = Metrics()
    audit = Audit(AuditPolicy.everything(), [AuditLog(Path(os.devnull))])
    async with ScriptedBackend(lambda request: respond(200)) as backend:
        service = PathService("/x/", [f"http://{backend.host}:{backend.port}", "http://127.0.0.1:1"])
        everybody = Anonymous(["/x/"])
        webhook = SubjectAccessReviewWebhook(Webhook(Remote("http://127.0.0.1:1", None)), match_conditions=["false"])
        front = FrontProxy(
            services=[service],
            metrics=metrics,
            anonymous=everybody,
            authorization=Union([webhook, ConfiguredAuthorizers(place / "order.yaml")]),
            audit=audit,
            authentication=[TokenCache([ServiceAccounts("sa", StaticAccounts({}), signing_key=SIGNING_KEY)])],
            impersonation=True,
        )
        async with front:
            assert (await Client(front).request("GET", "/x/")).status == 200
            page = Figures((await metrics.page()).body.decode())
    found: Shown = {family.name: (family.kind, frozenset(family.labels), family.help) for family in FAMILIES}
    for family in page.families:
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if name in found:
            assert labels <= found[name][1]
            assert (family.type, family.documentation) == (found[name][0], found[name][2])
        else:
            found[name] = (family.type, frozenset(labels), family.documentation)
    return found


async def test_every_metric_is_documented(tmp_path: Path) -> None:
    """The table has every metric with its type, labels and meaning, and no other."""
    assert documented() == await exposed(tmp_path)


def test_labels_are_documented() -> None:
    """Every label has its values."""
    described = {label.strip("`") for names, _ in rows("Labels") for label in names.split()}
    assert described == {label for _, labels, _ in documented().values() for label in labels} - PYTHON


def test_verbs_and_bounds_are_documented() -> None:
    """Those of the code, word by word and number by number."""
    values = dict(rows("Labels"))
    assert set(re.findall(r"`(\w+)`", values["`verb`"].split(" for every")[0])) == VERBS
    bounds = section("Labels").split("The bounds of durations are")[1].split("seconds")[0]
    assert tuple(map(float, re.findall(r"[\d.]*\d", bounds))) == DURATIONS
    assert f"`{OTHER}`" in values["`code`"]


def test_paths_are_documented() -> None:
    """Those that have a `subresource` of their own."""
    text = section("Which names become labels").split("are told apart")[1].split("; and path services")[0]
    assert set(re.findall(r"`(/[\w/]+)`", text)) == SUBRESOURCES
    assert {f"/{name}" for name in RESERVED} <= SUBRESOURCES


def test_example_makes_a_front_proxy() -> None:
    """The code of the page runs."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    found: dict[str, object] = {}
    exec(code, found)
    assert "metrics" in repr(found["app"])


async def test_policy_lets_the_scraper_read() -> None:
    """The rule of the page allows what it says, and nothing else."""
    (rule,) = re.findall(r"^```csv\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    authorizer = CasbinAuthorizer.from_text(rule)
    for user, path, allowed in (
        ("prometheus", "/metrics", True),
        ("prometheus", "/x", False),
        ("bob", "/metrics", False),
    ):
        verdict = await authorizer.authorize(Attributes(Identity(user), "get", False, path=path))
        assert verdict.allowed is allowed
