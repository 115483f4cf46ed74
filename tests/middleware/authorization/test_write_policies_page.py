"""`docs/how-to/write-policies.md` says the truth: policies are loaded, tables decided, messages compared."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.authorization.casbin.inputs import FIELDS

PAGE = (Path(__file__).parents[3] / "docs/how-to/write-policies.md").read_text(encoding="utf-8")
HEADER = "| user | groups | verb | apiGroup | what | namespace | name | allowed |\n"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def tables() -> list[list[list[str]]]:
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.split("\n\n")[0].splitlines()[1:]]
        for part in PAGE.split(HEADER)[1:]
    ]


def asked(cells: list[str]) -> Attributes:
    user, groups, verb, group, what, namespace, name, _ = cells
    identity = Identity(user, groups=tuple(groups.split()))
    if what.startswith("/"):
        return Attributes(identity, verb, False, path=what)
    resource, _, subresource = what.partition("/")
    return Attributes(identity, verb, True, group, "v1alpha1", resource, subresource, namespace, name)


@pytest.mark.parametrize("number", [0, 1], ids=["shipped model", "own model"])
async def test_tables_are_decided_as_written(number: int) -> None:
    """Each row of a decision table is what the policy above it decides, and the policy has no warnings."""
    policy = [blocks("csv")[0], blocks("csv")[2]][number]
    authorizer = CasbinAuthorizer.from_text(policy, model=[None, blocks("ini")[0]][number])
    assert authorizer.warnings == ()
    rows = tables()[number]
    assert len(rows) >= 4
    for cells in rows:
        verdict = await authorizer.authorize(asked(cells))
        assert verdict.allowed is (cells[-1] == "yes"), cells


def test_messages_are_the_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistakes that the page shows are refused with the lines it shows."""
    monkeypatch.chdir(tmp_path)
    Path("policy.csv").write_text(blocks("csv")[1], encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_files("policy.csv")
    assert str(caught.value) == blocks("text")[0].rstrip()


def test_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example that loads a policy works as it stands."""
    monkeypatch.chdir(tmp_path)
    Path("policy.csv").write_text(blocks("csv")[0], encoding="utf-8")
    names: dict[str, object] = {}
    exec(compile(blocks("python")[0], "write-policies.md", "exec"), names)
    assert isinstance(names["authorizer"], CasbinAuthorizer)


def test_every_field_and_option_is_on_the_page() -> None:
    """A field of the request definition or an option that the page does not name is a gap."""
    options = [name for name in inspect.signature(CasbinAuthorizer.from_files).parameters if name != "policy"]
    missing = [name for name in (*FIELDS, *options) if not re.search(rf"[`\s(]{name}[`=]", PAGE)]
    assert missing == []
