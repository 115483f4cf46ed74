"""What would allow a request: lines to add to a policy and rules to take out of it, each found to be enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from aggmw.contracts.authorization import Attributes, Change
from aggmw.middleware.authorization.casbin.misses import Near, caller_subjects, covers, request_values
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.roles import MAX_DEPTH, reach
from aggmw.middleware.authorization.casbin.snapshot import Snapshot
from aggmw.middleware.authorization.casbin.standard import row_faults

__all__ = ["changes", "line"]

_MOST = 4


def line(row: Sequence[str], ptype: str) -> str:
    """A row as it is written in a policy file."""
    return ", ".join((ptype, *map(_column, row)))


def _column(text: str) -> str:
    if text and not any(character in text for character in ',"()[]#') and text == text.strip():
        return text
    quoted = text.replace('"', '""')
    return f'"{quoted}"'


def changes(snapshot: Snapshot, attributes: Attributes, nearest: Sequence[Near]) -> tuple[Change, ...]:
    """Ways to allow a request under the model that ships, the narrowest first; none where no rule could.

    Args:
        nearest: rules that allow, as `near` finds them.
    """
    work = _Work(snapshot, attributes)
    if any(not one.differences for one in nearest):
        return (work.removal(),)
    found = (change for change in work.all(nearest) if change is not None)
    return tuple(dict.fromkeys(found))[:_MOST]


class _Work:
    def __init__(self, snapshot: Snapshot, attributes: Attributes) -> None:
        self._snapshot = snapshot
        self._attributes = attributes
        self._whom = attributes.identity.user
        files = dict.fromkeys(row.where.rpartition(":")[0] for row in snapshot.report.rows)
        self._file = f" to {next(iter(files))}" if len(files) == 1 else ""
        self._user = f"user:{attributes.identity.user}"
        self._roles = snapshot.graphs["g"]
        self._subjects = caller_subjects(snapshot, attributes)
        self._edges: dict[str, list[str]] = {}
        for row in snapshot.report.rows:
            if row.ptype == "g":
                self._edges.setdefault(row[0], []).append(row[1])
        self._ptype = f"p{snapshot.suffix(attributes)}"
        self._denying = [
            row
            for row in snapshot.report.rows
            if row.ptype == self._ptype and row[-1] == "deny" and covers(row, attributes)
        ]
        denying = self._deny(self._subjects)
        self._remove = tuple(map(str, denying))
        self._besides = ""
        self._places = ", ".join(row.where for row in denying)
        if denying:
            self._besides = f"take out what denies it ({self._places}), and "

    def _deny(self, subjects: Iterable[str]) -> list[Row]:
        held = frozenset(subjects)
        return [row for row in self._denying if row[0] in held]

    def removal(self) -> Change:
        """Where another rule allows it already."""
        rules = "the rule that denies it" if len(self._remove) == 1 else "all the rules that deny it"
        return Change(f"take out {rules} ({self._places}), or narrow it", remove=self._remove)

    def all(self, nearest: Sequence[Near]) -> Iterator[Change | None]:
        yield self._own_line()
        for one in nearest:
            if len(one.differences) == 1:
                (difference,) = one.differences
                if difference.what == "role":
                    yield self._membership(one.rule[0])
                elif difference.what == "group":
                    yield self._group(one.rule[0])
                elif difference.what != "user":
                    yield self._wider(one.rule, difference.column)

    def _own_line(self) -> Change | None:
        """A rule about this caller and this request."""
        columns = [self._user]
        wide: list[str] = []
        names = ("verb", "path") if self._ptype == "p2" else ("verb", "apiGroup", "resource", "namespace", "name")
        for name, value in zip(names, request_values(self._attributes), strict=True):
            columns.append(value or "*")
            trial = Row((*columns, *("*" for _ in names[len(columns) - 1 :]), "allow"), self._ptype, "")
            starred = value == "*" and name in ("namespace", "name")  # which would be all of them
            if not value or starred or "|" in value or any(row_faults(trial)) or not covers(trial, self._attributes):
                columns[-1] = "*"
                wide.append(name)
        row = Row((*columns, "allow"), self._ptype, "")
        if any(row_faults(row)):
            return None
        text = line(columns, self._ptype)
        because = _because(wide, request_values(self._attributes)[3:])
        if self._ptype == "p2" and columns[-1] != "*" and columns[-1].endswith("*"):
            because = " (which covers every path that begins so: no column can hold a path that ends in a *)"
        return Change(f"{self._besides}add a rule for {self._whom}{self._file}{because}", (text,), self._remove)

    def _membership(self, role: str) -> Change | None:
        """The caller in a role."""
        gained = {role, *self._roles.roles_of(role)}
        if self._deny(gained - self._subjects):
            return None  # another rule would deny it then
        if max(reach(role, self._edges).values(), default=0) >= MAX_DEPTH:
            return None
        if any(row_faults(Row((self._user, role), "g", ""))):
            return None
        text = line((self._user, role), "g")
        what = self._given(gained)
        return Change(f"{self._besides}make {self._whom} a member of {role}{what}", (text,), self._remove)

    def _given(self, subjects: Iterable[str]) -> str:
        """That whoever becomes one of these gets more than a rule."""
        gained = frozenset(subjects)
        rules = sum(row[0] in gained for row in self._snapshot.report.rows if row.ptype != "g")
        return f", which gives {rules} rules" if rules > 1 else ""

    def _group(self, subject: str) -> Change | None:
        """The caller in a group, which no policy can do."""
        gained = {subject, *self._roles.roles_of(subject)}
        group = subject.partition(":")[2]
        if self._deny(gained - self._subjects) or group.startswith("system:"):
            return None
        return Change(
            f"{self._besides}put {self._whom} into the group {group}{self._given(gained)}, where users are kept:"
            " no rule can do that",
            (),
            self._remove,
            (group,),
        )

    def _wider(self, rule: Row, column: int) -> Change | None:
        """A rule that concerns the caller, with one more alternative; not one that nearly everybody would have."""
        values = request_values(self._attributes)
        value = values[column - 1]
        if rule[0].startswith("group:system:") or rule[column] == "*":
            return None
        if self._ptype == "p" and (column == 2 or (column != 4 and rule[4] == "*" and values[3])):
            return None
        if (
            self._ptype == "p"
            and column == 3
            and not any(one.partition("/")[0] == value.partition("/")[0] for one in rule[column].split("|"))
        ):
            return None
        columns = list(rule)
        columns[column] = f"{rule[column]}|{value}" if value else "*"
        wider = Row(tuple(columns), rule.ptype, rule.where)
        if any(row_faults(wider)) or not covers(wider, self._attributes):
            return None
        text = line(columns[:-1], rule.ptype)
        every = "" if value else (" to all namespaces", " to every name")[column - 4]
        others = "" if rule[0] == self._user else f"; that holds for everybody who is {_whose(rule[0])}"
        wide = f"widen the rule at {rule.where}{every}{others}"
        return Change(f"{self._besides}{wide}", (text,), (*self._remove, str(rule)))


def _whose(subject: str) -> str:
    kind, _, name = subject.partition(":")
    return f"in the group {name}" if kind == "group" else f"a member of {subject}"


def _because(wide: Sequence[str], place: Sequence[str]) -> str:
    """Why a rule has a `*`."""
    missing = [name for name, value in zip(("namespace", "name"), place, strict=False) if name in wide and not value]
    others = [name for name in wide if name not in missing]
    texts = []
    if missing:
        texts.append(f"only a * covers requests without a {' or a '.join(missing)}")
    if others:
        texts.append(f"no column can hold its {', '.join(others)}")
    return f" ({'; '.join(texts)})" if texts else ""
