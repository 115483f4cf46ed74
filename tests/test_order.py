"""The order of the stages is written in more than one place; they agree."""

from __future__ import annotations

import re

import aggmw.middleware
from aggmw import FrontProxy


def test_docstring_and_front_proxy_agree() -> None:
    """The docstring of `aggmw.middleware` lists the stages as `FrontProxy` runs them."""
    listed = re.findall(r"^\d+\. (\w+):", aggmw.middleware.__doc__ or "", flags=re.MULTILINE)
    assert tuple(listed) == FrontProxy().order


def test_repr_shows_the_order() -> None:
    """A front proxy's repr reads as the way of a request."""
    assert repr(FrontProxy()).startswith("FrontProxy(recovery → request_info → authentication → authorization →")
