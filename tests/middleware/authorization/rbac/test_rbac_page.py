"""`docs/how-to/rbac.md` says the truth: manifests are loaded, the table decided, messages compared, Python run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from tests.middleware.authorization.rbac.manifests import asked

from aggmw.config.load import parse
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import RbacAuthorizer
from aggmw.middleware.authorization.rbac.manifests import default_objects

PAGE = (Path(__file__).parents[4] / "docs/how-to/rbac.md").read_text(encoding="utf-8")
HEADER = "| user | groups | verb | apiGroup | what | namespace | name | allowed |\n"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}(?: title=.*)?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files of the page."""
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r'^```yaml title="(.*?)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE):
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


def test_table_is_decided_as_written() -> None:
    """Each row is what the manifests decide, and these have no warnings."""
    authorizer = RbacAuthorizer.from_files("rbac.yaml")
    assert authorizer.warnings == ()
    table = PAGE.split(HEADER)[1].split("\n\n")[0].splitlines()[1:]
    assert len(table) > 10
    for line in table:
        user, groups, verb, group, what, namespace, name, allowed = (
            cell.strip() for cell in line.strip("|").split("|")
        )
        request = asked(user, verb, what, groups=groups, group=group, namespace=namespace, name=name)
        assert authorizer.verdict(request).allowed is (allowed == "yes"), line


def test_messages_are_the_real_ones() -> None:
    """The mistakes that the page shows are refused with the lines it shows."""
    with pytest.raises(ConfigurationError) as caught:
        RbacAuthorizer.from_files("broken.yaml")
    assert str(caught.value) == blocks("text")[0].rstrip()


@pytest.mark.parametrize("number", [0, 1])
def test_python_of_the_page_runs(number: int) -> None:
    """The examples work as they stand."""
    exec(compile(blocks("python")[number], "rbac.md", "exec"), {})


def test_configuration_of_the_page(place: Path) -> None:
    """The configuration names the files of the page."""
    text = Path("config.yaml").read_text(encoding="utf-8")
    found = parse(yaml.safe_load(text), file="config.yaml", base=place)
    assert found.authorization.rbac == (place / "rbac.yaml",)


def test_every_default_and_option_is_on_the_page() -> None:
    """A default role or an option that the page does not name is a gap."""
    roles = {one.name for one in default_objects() if not one.name.startswith("system:aggregate-to-")}
    options = [name for name in inspect.signature(RbacAuthorizer.from_files).parameters if name != "paths"]
    assert [name for name in (*sorted(roles), *options) if not re.search(rf"`{name}[`=]", PAGE)] == []
