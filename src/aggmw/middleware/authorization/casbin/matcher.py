"""One matcher, read as casbin will evaluate it: which fields it names, what it calls, and what is wrong with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from aggmw.middleware.authorization.casbin.inputs import SETS

__all__ = ["Matcher", "Vocabulary", "field_of", "read_matcher", "shown"]

_STRING_OR_COMMENT = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|#""")
_REWRITTEN = re.compile(r"!|&&|\|\||#|\b[rp]\d*\.|\beval\(")
_FIELD = re.compile(r"\b([rp]\d*)\.(?=[^\W\d])")
_NOT = re.compile(r"!(?!=)")
_PREFIX = re.compile(r"\b([rp]\d*)_")
_NAME = re.compile(r"([rp])(\d*)_(\w+)")
_SETS_TAKEN_BY = re.compile(r"(?:inGroups|g\d*)\Z")
_NODES = (
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.UnaryOp,
    ast.Not,
    ast.USub,
    ast.BinOp,
    ast.operator,
    ast.Compare,
    ast.cmpop,
    ast.IfExp,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.ListComp,
    ast.GeneratorExp,
    ast.comprehension,
    ast.expr_context,
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a matcher may name.

    Args:
        suffix: "" for m, "2" for m2.
        request, policy: the names of the request's and of the policy's fields.
        roles: g, g2, … and how many arguments each takes.
        functions: all functions.
        allow_eval: whether `eval(p.field)` may run the text of policies as expressions.
        objects: the request's fields that are no plain text, so that they may have attributes and items.
    """

    suffix: str
    request: Collection[str]
    policy: Collection[str]
    roles: Mapping[str, int]
    functions: Collection[str]
    allow_eval: bool = False
    objects: Collection[str] = ()


class Matcher:
    """A matcher as a tree.

    Attributes:
        tree: Python's tree of the expression.
        suffix: as in `Vocabulary`.
    """

    def __init__(self, tree: ast.expr, suffix: str) -> None:
        self.tree = tree
        self.suffix = suffix

    def faults(self, vocabulary: Vocabulary) -> Iterator[str]:
        """What is wrong: names nobody knows, expressions that mean something else than they look like."""
        called = {id(node.func) for node in ast.walk(self.tree) if isinstance(node, ast.Call)}
        bound = {
            node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield from _call_faults(node, vocabulary)
            elif isinstance(node, ast.Name) and id(node) not in called:
                if node.id not in bound:
                    yield from _name_faults(node, vocabulary)
            elif isinstance(node, ast.Attribute | ast.Subscript) and _is_of(node, vocabulary):
                continue
            elif not isinstance(node, _NODES) and id(node) not in called:
                yield f"uses '{shown(node)}', which casbin's matchers do not have: fields are plain text"
        yield from self._set_faults()

    def warnings(self) -> Iterator[str]:
        """What is likely to be meant otherwise."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare):
                for operator, right in zip(node.ops, node.comparators, strict=True):
                    field = field_of(right)
                    if isinstance(operator, ast.In | ast.NotIn) and field and not _is_set(right):
                        yield (
                            f"asks whether a value is in {field}, which is true for any part of that text:"
                            " use == or a list"
                        )

    def calls(self) -> Iterator[tuple[str, tuple[str | None, ...]]]:
        """The functions that are called, each with the field that each argument is, if it is one."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id, tuple(field_of(argument) for argument in node.args)

    def patterns(self, functions: Collection[str]) -> Iterator[tuple[str, ast.expr | None]]:
        """The calls of these functions, each with its pattern; None where it has no value and pattern."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
                yield node.func.id, node.args[1] if len(node.args) == 2 and not node.keywords else None

    def negates(self, function: str) -> bool:
        """Whether a call of the function stands behind a `!`."""
        return any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function
            for negation in ast.walk(self.tree)
            if isinstance(negation, ast.UnaryOp)
            for node in ast.walk(negation)
        )

    def _set_faults(self) -> Iterator[str]:
        """A set compared with a text is never equal to it, so a deny rule would be silently void."""
        looked_into: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare):
                pairs = zip(node.ops, node.comparators, strict=True)
                looked_into.update(id(right) for operator, right in pairs if isinstance(operator, ast.In | ast.NotIn))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                looked_into.update({id(node.args[0])} if _SETS_TAKEN_BY.match(node.func.id) else ())
        for node in ast.walk(self.tree):
            if _is_set(node) and id(node) not in looked_into:
                field = field_of(node)
                yield f"compares {field}, which is a set: write p.x in {field} or inGroups({field}, p.x)"


def read_matcher(text: str, suffix: str) -> Matcher:
    """The tree of a matcher, or of an expression in a rule.

    casbin turns the text into Python by replacing pieces of it, inside strings too; a string that would be changed is
    refused, so that this tree is the one casbin evaluates.

    Raises:
        ValueError: it cannot be read, and why.
    """
    python, at = "", 0
    for found in _STRING_OR_COMMENT.finditer(text):
        piece = found.group()
        if piece == "#":
            text = text[: found.start()]
            break
        if _REWRITTEN.search(piece):
            raise ValueError(f"holds the text {piece}, parts of which casbin would replace")
        python += _python(text[at : found.start()]) + piece
        at = found.end()
    python += _python(text[at:])
    try:
        tree = ast.parse(python.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the parser's stack is short of memory
        raise ValueError(f"is not an expression: {text}") from error
    return Matcher(tree, suffix)


def _python(text: str) -> str:
    text = _FIELD.sub(r"\1_", text).replace("&&", " and ").replace("||", " or ")
    return _NOT.sub(" not ", text)


def shown(node: ast.AST) -> str:
    """An expression as a matcher has it."""
    return _PREFIX.sub(r"\1.", ast.unparse(node))


def field_of(node: ast.AST) -> str | None:
    """`r.sub` for a field, None for anything else."""
    found = _NAME.fullmatch(node.id) if isinstance(node, ast.Name) else None
    return f"{found[1]}{found[2]}.{found[3]}" if found else None


def _is_set(node: ast.AST) -> bool:
    field = field_of(node)
    return field is not None and field[0] == "r" and field.partition(".")[2] in SETS


def _is_of(node: ast.AST, vocabulary: Vocabulary) -> bool:
    """Whether this is an attribute or an item of a field that has such."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute) and node.attr.startswith(("_", "func_")):
            return False
        node = node.value
    field = field_of(node)
    return field is not None and field[0] == "r" and field.partition(".")[2] in vocabulary.objects


def _name_faults(node: ast.Name, vocabulary: Vocabulary) -> Iterator[str]:
    field = field_of(node)
    if field is None:
        yield f"names '{node.id}', which is neither a field (r.…, p.…) nor a text in quotes"
        return
    definition, _, name = field.partition(".")
    letter = definition[0]
    if definition[1:] != vocabulary.suffix:
        yield f"names '{field}': m{vocabulary.suffix} knows {letter}{vocabulary.suffix} only"
        return
    known = vocabulary.request if letter == "r" else vocabulary.policy
    if name not in known:
        section = "request_definition" if letter == "r" else "policy_definition"
        listed = ", ".join(f"{definition}.{one}" for one in known)
        yield f"names field '{field}', which [{section}] does not define; known: {listed}"


def _call_faults(node: ast.Call, vocabulary: Vocabulary) -> Iterator[str]:
    if not isinstance(node.func, ast.Name):
        yield f"calls {shown(node.func)}(), which is no function of casbin's"
        return
    name = node.func.id
    if name == "eval":
        if not vocabulary.allow_eval:
            yield "calls eval(), which runs the text of policies: whoever writes a rule could allow anything"
    elif name in vocabulary.roles:
        wanted = vocabulary.roles[name]
        if len(node.args) != wanted:
            yield f"calls {name}() with {len(node.args)} arguments; its role definition has {wanted}"
    elif name not in vocabulary.functions:
        known = ", ".join(sorted({*vocabulary.functions, *vocabulary.roles}))
        yield f"calls {name}(), which is no known function; known: {known}"
