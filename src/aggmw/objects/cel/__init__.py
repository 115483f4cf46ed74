"""CEL, the Common Expression Language, as Kubernetes uses it in its configuration and its definitions.

::

    program = compile("claims.?email.orValue('').endsWith('@example.com')", {"claims": "map(string, dyn)"})
    program.evaluate(claims={"email": "ann@example.com"})   # True

Follows cel-spec's langdef.md and `k8s.io/apiserver/pkg/cel/environment`. An expression is parsed, its types are checked
and it becomes Python closures once; evaluation only computes, counts its steps, and stops at a budget. A `Program` may
be used by several threads.
"""

from aggmw.objects.cel.errors import CelBudgetExceeded, CelCompileError, CelError, CelEvaluationError, Mistake
from aggmw.objects.cel.program import BUDGET, Program, compile  # noqa: A004  as in every engine
from aggmw.objects.cel.types import Type, object_of
from aggmw.objects.cel.values import Optional, TypeValue, UInt

__all__ = [
    "BUDGET",
    "CelBudgetExceeded",
    "CelCompileError",
    "CelError",
    "CelEvaluationError",
    "Mistake",
    "Optional",
    "Program",
    "Type",
    "TypeValue",
    "UInt",
    "compile",
    "object_of",
]
