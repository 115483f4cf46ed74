"""`docs/how-to/authenticators.md` has a section for each authenticator there is, and says how it is configured."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from tests.docs.pages import DOCS, blocks

from aggmw.middleware import authentication

PATH = DOCS / "how-to" / "authenticators.md"
PAGE = PATH.read_text(encoding="utf-8")
KEYS = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")


def authenticators() -> Iterator[type]:
    """Every public class that finds out who is asking."""
    for name in authentication.__all__:
        one = getattr(authentication, name)
        if inspect.isclass(one) and hasattr(one, "authenticate"):
            yield one


def test_each_authenticator_has_its_section() -> None:
    """With an example that makes it; the table leads there."""
    names = {one.__name__ for one in authenticators()}
    assert len(names) == 10
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))
    assert names <= sections.keys()
    for name in names:
        assert f"[`{name}`](#{name.lower()})" in PAGE, name
        assert re.search(rf"```python\n.*{name}[.(]", sections[name], re.DOTALL), name


def test_each_stands_in_a_module_of_its_own() -> None:
    """As the page says."""
    modules = [one.__module__ for one in authenticators()]
    assert len(set(modules)) == len(modules)
    assert all(module.startswith("aggmw.middleware.authentication.") for module in modules)


def test_keys_exist() -> None:
    """Those of the table are keys of the configuration, or what keys begin with."""
    keys = re.findall(r"\| `(authentication\.[\w.]+)` \|$", PAGE, re.MULTILINE)
    assert len(keys) == 8
    assert all(f"`{key}" in KEYS for key in keys)


def test_examples_are_alone() -> None:
    """Every example is whole; those of how-to pages are run elsewhere."""
    examples = [block.text for block in blocks(PATH) if block.language == "python"]
    assert all("import" in example for example in examples)
