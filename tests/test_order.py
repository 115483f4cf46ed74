"""The order of the stages is written in more than one place; they agree."""

from __future__ import annotations

import re
from pathlib import Path

import aggmw
import aggmw.middleware
from aggmw import FrontProxy
from aggmw.middleware.metrics import Metrics


def test_docstring_and_front_proxy_agree() -> None:
    """The docstring of `aggmw.middleware` lists the stages as `FrontProxy` runs them."""
    listed = re.findall(r"^\d+\. (\w+):", aggmw.middleware.__doc__ or "", flags=re.MULTILINE)
    assert tuple(listed) == FrontProxy().order


def test_the_tour_agrees() -> None:
    """So does the docstring of `aggmw`, in which each stage is named in its turn."""
    tour = (aggmw.__doc__ or "").partition("from the outside in:")[2].partition("What no stage takes")[0]
    named = [name for name in re.findall(r"`(\w+)`", tour) if name != "Status"]
    assert tuple(named) == FrontProxy().order


def test_repr_shows_the_order() -> None:
    """A front proxy's repr reads as the way of a request."""
    assert repr(FrontProxy()).startswith("FrontProxy(recovery → request_info → authentication → authorization →")


def test_design_page_agrees() -> None:
    """So does the table of the design page."""
    page = (Path(__file__).parent.parent / "docs" / "explanation" / "design.md").read_text()
    listed = re.findall(r"^\| \d+ \| (\w+) \|", page, flags=re.MULTILINE)
    assert tuple(listed) == FrontProxy().order


def test_repr_leaves_out_what_is_off() -> None:
    """A stage that is off has its place in the order and is not shown as running."""
    assert "metrics" not in repr(FrontProxy())
    assert "authorization → metrics → discovery" in repr(FrontProxy(metrics=Metrics()))


def test_examples_agree() -> None:
    """The numbered examples: one a stage without a gap, then the whole, and what can be done with it."""
    names = sorted(path.stem for path in (Path(__file__).parent.parent / "examples").glob("[0-9]*.py"))
    expected = [*FrontProxy().order, "front_proxy", "in_process", "forward_auth"]
    assert names == [f"{number:02}_{name}" for number, name in enumerate(expected, 1)]
