"""Match conditions: which requests a webhook is asked about, in CEL (`k8s.io/apiserver/pkg/authorization/cel`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aggmw.errors import ConfigurationError, Problem
from aggmw.objects import cel
from aggmw.objects.cel import CelCompileError, CelError, Program, Type, object_of
from aggmw.objects.yaml_files import shown

__all__ = ["MatchConditions", "Matched"]

_MOST = 64
_BUDGET = 20_000  # steps of one condition, some 3 ms: callers choose how many groups they have
_STRINGS = "list(string)"


_REQUIREMENT = object_of("kubernetes.SelectorRequirement", {"key": "string", "operator": "string", "values": _STRINGS})
_SELECTOR: Mapping[str, str | Type] = {"rawSelector": "string", "requirements": Type("list", (_REQUIREMENT,))}
_TEXTS = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
_RESOURCE = object_of(
    "kubernetes.ResourceAttributes",
    {
        **dict.fromkeys(_TEXTS, "string"),
        "fieldSelector": object_of("kubernetes.FieldSelectorAttributes", _SELECTOR),
        "labelSelector": object_of("kubernetes.LabelSelectorAttributes", _SELECTOR),
    },
)
_VARIABLES: Mapping[str, Type] = {
    "request": object_of(
        "kubernetes.SubjectAccessReviewSpec",
        {
            "user": "string",
            "uid": "string",
            "groups": _STRINGS,
            "extra": "map(string, list(string))",
            "resourceAttributes": _RESOURCE,
            "nonResourceAttributes": object_of(
                "kubernetes.NonResourceAttributes", {"path": "string", "verb": "string"}
            ),
        },
    )
}


class Matched(NamedTuple):
    """What conditions say of a request.

    Attributes:
        false: the condition that is false, if one is: then the others do not count.
        errors: why others have no value.
    """

    false: str = ""
    errors: tuple[str, ...] = ()


_MATCHED = Matched()


class MatchConditions:
    """Conditions that must all be true.

    Args:
        expressions: in CEL, over `request`, the spec of a `SubjectAccessReview` of v1.

    Raises:
        ConfigurationError: every mistake in them, each at `[number].expression`.
    """

    def __init__(self, expressions: Sequence[str] = ()) -> None:
        problems: list[Problem] = []
        programs: dict[str, Program] = {}
        if len(expressions) > _MOST:
            raise ConfigurationError([Problem("", f"Too many: {len(expressions)}: must have at most {_MOST} items")])
        for number, text in enumerate(expressions):
            where = f"[{number}].expression"
            if not text.strip():
                problems.append(Problem(where, "Required value"))
            elif text in programs:
                problems.append(Problem(where, f"Duplicate value: {shown(text)}"))
            else:
                try:
                    programs[text] = cel.compile(text, _VARIABLES, result=("bool",), budget=_BUDGET)
                except CelCompileError as error:
                    mistakes = "; ".join(map(str, error.mistakes))
                    problems.append(Problem(where, f"Invalid value: {shown(text)}: {mistakes}"))
        if problems:
            raise ConfigurationError(problems)
        self._programs = tuple(programs.items())

    def __repr__(self) -> str:
        return f"MatchConditions({[text for text, _ in self._programs]})"

    def __bool__(self) -> bool:
        return bool(self._programs)

    def match(self, spec: Mapping[str, Any]) -> Matched:
        """Evaluate them in order, up to the first that is false.

        Args:
            spec: as `review_spec` makes it.
        """
        errors: list[str] = []
        for text, program in self._programs:
            try:
                if program.evaluate(request=spec) is not True:
                    return Matched(text)
            except CelError as error:
                errors.append(f"the condition {shown(text)} has no value: {error}")
        return Matched(errors=tuple(errors)) if errors else _MATCHED
