"""Questions to whole policies, which nobody asks on the way of a request.

`who_can` finds everybody who may do something, `diff` what two policies allow to whom, `shadowed` the rules that change
nothing, `unheld` roles that nobody can have; `why_lines` and its like put answers into words. All but `who_can` take
what `CasbinAuthorizer.granted` and `RbacAuthorizer.granted` give.
"""

from __future__ import annotations

from aggmw.middleware.authorization.analysis.comparison import Difference, Reach, diff
from aggmw.middleware.authorization.analysis.regions import TooMuch
from aggmw.middleware.authorization.analysis.search import Holder, PartHolder, RoleHolder, WhoCan, who_can
from aggmw.middleware.authorization.analysis.shadows import Shadow, shadowed, unheld
from aggmw.middleware.authorization.analysis.words import diff_lines, who_can_lines, why_lines

__all__ = [
    "Difference",
    "Holder",
    "PartHolder",
    "Reach",
    "RoleHolder",
    "Shadow",
    "TooMuch",
    "WhoCan",
    "diff",
    "diff_lines",
    "shadowed",
    "unheld",
    "who_can",
    "who_can_lines",
    "why_lines",
]
