"""All the mistakes of a model and its policy, found in one pass before anything is decided by them."""

from __future__ import annotations

import ast
import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aggmw.errors import Problem
from aggmw.middleware.authorization.aside import drain
from aggmw.middleware.authorization.casbin import standard
from aggmw.middleware.authorization.casbin.expressions import expression_fault
from aggmw.middleware.authorization.casbin.functions import KEY_PATTERNS, PURE, key_pattern_fault
from aggmw.middleware.authorization.casbin.inputs import FIELDS
from aggmw.middleware.authorization.casbin.matcher import Matcher, Vocabulary, field_of, read_matcher
from aggmw.middleware.authorization.casbin.model import Definition, Model
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.roles import MAX_DEPTH, circling, too_deep, way_back

__all__ = ["Report", "inspect"]

_ALLOWED = "some(where (p.eft == allow))"
_NONE_DENIED = "!some(where (p.eft == deny))"
_EFFECTS = (
    _ALLOWED,
    f"{_ALLOWED} && {_NONE_DENIED}",
    "priority(p.eft) || deny",
    "subjectPriority(p.eft) || deny",
    _NONE_DENIED,
)
_PATTERNS = frozenset({*KEY_PATTERNS, "regexMatch", "globMatch", "ipMatch"})
_CALLERS = {"sub": "user", "user": "user", "groups": "group"}
_ENDED = re.compile(r".*(?<!\\)(\$|\.\*|\\Z)", re.DOTALL)


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        problems: mistakes; with one of them nothing may be decided.
        warnings: what is probably meant otherwise.
        rows: the policy without repeated rows, a missing effect filled in.
        matchers: by suffix, those that can be read.
        varying: functions and fields that matchers use and that may say something else the next time.
        without_match: whether a request that matches no rule is allowed (deny-override).
        shipped: whether this is the model that ships.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    matchers: dict[str, Matcher] = field(default_factory=dict)
    varying: list[str] = field(default_factory=list)
    without_match: bool = False
    shipped: bool = False

    def problem(self, where: str, text: str) -> None:
        self.problems.append(Problem(where, text))

    def warning(self, where: str, text: str) -> None:
        self.warnings.append(Problem(where, text))


def inspect(
    model: Model,
    rows: Sequence[Row],
    *,
    shipped: bool,
    functions: Collection[str],
    allow_eval: bool = False,
    objects: Collection[str] = (),
    exact: bool = True,
) -> Report:
    """Look through a model and the rows of a policy.

    Args:
        shipped: whether this is the model that ships, whose rows have a meaning that can be checked.
        functions: the names that matchers may call.
        allow_eval: whether they may call `eval()`.
        objects: fields of one's own that requests have besides.
        exact: whether patterns match whole values literally, or as casbin matches them.
    """
    report = Report(shipped=shipped)
    vocabularies: dict[str, Vocabulary] = {}
    for suffix in model.suffixes:
        vocabulary = _inspect_definitions(model, suffix, functions, allow_eval, objects, report)
        if vocabulary is not None:
            vocabularies[suffix] = vocabulary
    _inspect_rows(model, rows, shipped, report)
    _inspect_roles(report)
    for suffix, matcher in report.matchers.items():
        _inspect_callers(matcher, model, suffix, report)
        policy, where = model.definitions[f"p{suffix}"], model.definitions[f"m{suffix}"].where
        rows = [row for row in report.rows if row.ptype == policy.key]
        _inspect_patterns(matcher, policy, rows, where, exact, report)
        if allow_eval:
            _inspect_texts(matcher, model, vocabularies[suffix], exact, report)
    if shipped:
        report.warnings.extend(Problem(row.where, text) for row, text in standard.unused_roles(report.rows))
    return report


def _inspect_definitions(
    model: Model,
    suffix: str,
    functions: Collection[str],
    allow_eval: bool,
    objects: Collection[str],
    report: Report,
) -> Vocabulary | None:
    request, policy = model.get(f"r{suffix}"), model.get(f"p{suffix}")
    effect, matcher = model.get(f"e{suffix}"), model.get(f"m{suffix}")
    if request is None or policy is None or effect is None or matcher is None:
        return None
    report.problems.extend(_name_faults(request, policy, objects))
    if not suffix:
        _inspect_roles_defined(model, report)
    _inspect_effect(model, effect, policy, suffix, report)
    roles = {key: model.definitions[key].value.count("_") for key in model.role_keys}
    vocabulary = Vocabulary(suffix, request.columns, policy.columns, roles, functions, allow_eval, objects)
    try:
        tree = read_matcher(matcher.value, suffix)
    except ValueError as error:
        report.problem(matcher.where, f"[matchers] {matcher.key} {error}")
        return None
    report.problems.extend(Problem(matcher.where, f"[matchers] {text}") for text in tree.faults(vocabulary))
    report.warnings.extend(Problem(matcher.where, f"[matchers] {text}") for text in tree.warnings())
    report.varying += [name for name, _ in tree.calls() if name not in PURE and name not in roles]
    report.varying += [f"r.{name}" for name in request.columns if name in objects]
    report.matchers[suffix] = tree
    return vocabulary


def _name_faults(request: Definition, policy: Definition, objects: Collection[str]) -> Iterator[Problem]:
    for name in request.columns:
        if name not in FIELDS and name not in objects:
            known = ", ".join(sorted({*FIELDS, *objects}))
            yield Problem(
                request.where, f"[{request.section}] names field '{name}', which no request has; known: {known}"
            )
    for definition in (request, policy):
        for name in sorted({name for name in definition.columns if definition.columns.count(name) > 1}):
            yield Problem(definition.where, f"[{definition.section}] names field '{name}' twice")
    for name in policy.columns:
        if not name.isidentifier():
            yield Problem(
                policy.where, f"[{policy.section}] names field '{name}': a name has letters, digits and _ only"
            )


def _inspect_roles_defined(model: Model, report: Report) -> None:
    for key in model.role_keys:
        definition = model.definitions[key]
        if definition.columns not in (("_", "_"), ("_", "_", "_")):
            report.problem(definition.where, f"[role_definition] {key} is neither '_, _' nor '_, _, _' (with a domain)")


def _inspect_effect(model: Model, effect: Definition, policy: Definition, suffix: str, report: Report) -> None:
    first = model.get("e") or effect
    text = effect.value.partition("#")[0].strip().replace(f"p{suffix}.", "p.")
    if text not in _EFFECTS:
        report.problem(
            effect.where, f"[policy_effect] {effect.key} is none of casbin's effects: {' · '.join(_EFFECTS)}"
        )
    elif suffix and text != first.value.partition("#")[0].strip():
        report.problem(effect.where, f"[policy_effect] {effect.key} differs from e; casbin asks e only")
    elif "deny))" in text and "eft" not in policy.columns:
        report.problem(effect.where, f"[policy_effect] asks for denying rules, and {policy.key} has no column eft")
    elif text == _NONE_DENIED:
        report.without_match = True
        report.warning(
            effect.where, "[policy_effect] allows every request that no rule denies: a forgotten rule is a hole"
        )
    elif text == _EFFECTS[3] and ("g" not in model.definitions or suffix):
        report.problem(effect.where, "[policy_effect] subjectPriority needs roles (g), and works for p only")


def _inspect_rows(model: Model, rows: Sequence[Row], shipped: bool, report: Report) -> None:
    columns = _columns(model)
    if "p" not in columns:
        return
    seen: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.ptype not in columns:
            known = ", ".join(sorted(columns))
            report.problem(row.where, f"is of type '{row.ptype}', which the model does not define; known: {known}")
            continue
        wanted = columns[row.ptype]
        if shipped and row.ptype != "g" and len(row) == len(wanted) - 1:
            row = Row((*row, "allow"), row.ptype, row.where)
        if len(row) != len(wanted):
            report.problem(row.where, _count_fault(row, wanted, shipped))
            continue
        faults = list(_row_faults(row, wanted, shipped))
        report.problems.extend(Problem(row.where, fault) for fault in faults)
        if faults:
            continue
        if any(" #" in value for value in row):
            report.warning(row.where, "holds ' #': a comment stands on a line of its own, this is part of the column")
        first = seen.setdefault((row.ptype, *row), row)
        if first is not row:
            report.warning(row.where, f"repeats {first.where}")
            continue
        report.rows.append(row)
        if shipped:
            report.warnings.extend(Problem(row.where, text) for text in standard.row_warnings(row))
    drain(seen)


def _columns(model: Model) -> Mapping[str, tuple[str, ...]]:
    """The types of rows that a model has, and their columns."""
    columns = {key: model.definitions[key].columns for key in ("p", "p2") if key in model.definitions}
    for key in model.role_keys:
        domain = ("domain",) if model.definitions[key].value.count("_") > 2 else ()
        columns[key] = ("member", "role", *domain)
    return columns


def _count_fault(row: Row, wanted: Sequence[str], shipped: bool) -> str:
    count = f"{len(wanted) - 1} or {len(wanted)}" if shipped and row.ptype != "g" else str(len(wanted))
    columns = "column" if len(row) == 1 else "columns"
    return f"has {len(row)} {columns} after {row.ptype}, and the model wants {count}: {', '.join(wanted)}"


def _row_faults(row: Row, columns: Sequence[str], shipped: bool) -> Iterator[str]:
    for name, value in zip(columns, row, strict=True):
        if name == "eft" and value not in ("allow", "deny"):
            yield f"has effect '{value}': write allow or deny"
        elif name == "priority" and not (value.isascii() and value.isdigit()):
            yield f"has priority '{value}': write a number, like 10"
    if row.ptype[0] == "g" and "" in row:
        yield "has an empty column"
    elif shipped:
        yield from standard.row_faults(row)


def _inspect_roles(report: Report) -> None:
    graphs: dict[tuple[str, ...], dict[str, list[str]]] = {}
    wheres: dict[str, str] = {}
    grants = [row for row in report.rows if row.ptype[0] == "g"]
    for row in grants:
        graphs.setdefault((row.ptype, *row[2:]), {}).setdefault(row[0], []).append(row[1])
        wheres.setdefault(row[0], row.where)
    for key, graph in graphs.items():
        around = circling(graph)
        straight = graph
        if around:
            straight = _without_circles([row for row in grants if (row.ptype, *row[2:]) == key], around, report)
        for name, role, depth in too_deep(straight):
            report.problem(wheres[name], f"{name} has {role} only over {depth} memberships in a row; casbin follows 9")


def _without_circles(rows: Iterable[Row], around: Collection[str], report: Report) -> dict[str, list[str]]:
    """Who has which role, but for the rows that close circles, which are reported.

    Circles of very many roles stay: some of these are too deep.

    Args:
        around: the names from which there is a way into one.
    """
    graph: dict[str, list[str]] = {}
    for row in rows:
        circle = None
        if row[0] in around and row[1] in around:
            circle = way_back(row[1], row[0], graph, MAX_DEPTH + 1)
        if circle is None:
            graph.setdefault(row[0], []).append(row[1])
        else:
            report.problem(row.where, f"makes a circle of roles: {' → '.join([row[0], *circle])}")
    return graph


def _inspect_callers(matcher: Matcher, model: Model, suffix: str, report: Report) -> None:
    """Whether a caller could be called like a role: casbin's `g` holds for the role's own name too."""
    where = model.definitions[f"m{suffix}"].where
    for function, arguments in dict.fromkeys(matcher.calls()):
        kind = _CALLERS.get((arguments[0] or "").partition(".")[2]) if function in model.role_keys else None
        bare = [row[1] for row in report.rows if row.ptype == function and not row[1].startswith("role:")]
        if kind is not None and bare:
            report.warning(
                where,
                f"[matchers] {function}({arguments[0]}, …) also holds for a {kind} called like a role, such as"
                f" '{bare[0]}': call roles role:NAME, or ask p.x in r{suffix}.subjects",
            )


def _inspect_texts(matcher: Matcher, model: Model, vocabulary: Vocabulary, exact: bool, report: Report) -> None:
    """The expressions in rules that a matcher evaluates."""
    policy = model.definitions[f"p{vocabulary.suffix}"]
    for function, arguments in matcher.calls():
        column = (arguments[0] or "").partition(".")[2] if function == "eval" and len(arguments) == 1 else ""
        if column not in policy.columns:
            continue
        for row in report.rows:
            if row.ptype == policy.key:
                try:
                    text = read_matcher(row[policy.columns.index(column)], vocabulary.suffix)
                except ValueError as error:
                    report.problem(row.where, f"{column} {error}")
                else:
                    report.problems.extend(Problem(row.where, fault) for fault in text.faults(vocabulary))
                    _inspect_patterns(text, policy, [row], row.where, exact, report)


def _inspect_patterns(
    matcher: Matcher, policy: Definition, rows: Sequence[Row], where: str, exact: bool, report: Report
) -> None:
    """What a matcher, or the expression of a rule, uses as patterns: columns, row by row, and texts of its own."""
    effect = policy.columns.index("eft") if "eft" in policy.columns else None
    for function, pattern in matcher.patterns(_PATTERNS):
        inverted = matcher.negates(function)
        column = (field_of(pattern) or "").partition(".")[2] if pattern is not None else ""
        if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
            _inspect_pattern(function, where, pattern.value, inverted, exact, report)
        elif pattern is None or _names_request(pattern):
            report.problem(where, f"[matchers] {function}() takes a value, then a pattern of the policy's")
        elif column in policy.columns:
            index = policy.columns.index(column)
            for row in rows:
                denies = inverted or (effect is not None and row[effect] == "deny")
                _inspect_pattern(function, row.where, row[index], denies, exact, report)
        elif function not in ("keyMatch", "globMatch"):
            report.problem(where, f"[matchers] {function}() takes a field of the policy or a text as its pattern")


def _names_request(pattern: ast.expr) -> bool:
    return any((field_of(node) or "").startswith("r") for node in ast.walk(pattern))


def _inspect_pattern(function: str, where: str, pattern: str, denies: bool, exact: bool, report: Report) -> None:
    if function in KEY_PATTERNS:
        fault = key_pattern_fault(function, pattern)
        if fault:
            (report.problem if exact else report.warning)(where, fault)
    elif function == "ipMatch":
        try:
            ipaddress.ip_network(pattern, strict=False)
        except ValueError:
            report.problem(where, f"the pattern '{pattern}' is no address, and no network like 10.0.0.0/8")
    elif function == "regexMatch":
        _inspect_expression(where, pattern, denies, exact, report)


def _inspect_expression(where: str, pattern: str, denies: bool, exact: bool, report: Report) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        report.problem(where, f"the pattern '{pattern}' is no regular expression: {error}")
        return
    slow = expression_fault(pattern)
    if slow is not None:
        report.problem(where, f"the pattern '{pattern}' could keep the server busy with one request: it {slow}")
    if not _ENDED.fullmatch(pattern):
        if not exact:
            report.warning(where, f"the pattern '{pattern}' also matches whatever only begins so")
            return
        # Matching less than casbin would is safe where it allows, and a hole where it denies.
        tell = report.problem if denies else report.warning
        tell(
            where,
            f"the pattern '{pattern}' is matched against whole values here, against their beginning by casbin:"
            " end it with $, or with .* where anything may follow",
        )
