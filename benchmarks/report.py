"""Tables for people and the same rows as JSON for machines; progress goes to stderr."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

__all__ = ["Figure", "Report", "Row", "progress", "ratio"]

Row: TypeAlias = Mapping[str, str | float | None]
"""Column → figure. None is not measured, or not to be had."""


class Figure(NamedTuple):
    """Something that was measured, with its spread over rounds where it has one."""

    value: float
    least: float | None = None
    most: float | None = None


def progress(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """How many times `theirs` ours is."""
    return ours / theirs if ours and theirs else None


class Report:
    """Collects the tables of a run.

    Attributes:
        tables: title → rows, in order.
        figures: what floors can be compared with, by name.
        rounds: what the medians of a table were made of, for the JSON file alone: title → line → rounds.
        notes: what could not be measured, and why.
    """

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {}
        self.figures: dict[str, Figure] = {}
        self.rounds: dict[str, Mapping[str, Sequence[Row]]] = {}
        self.notes: list[str] = []
        self._load = [os.getloadavg()[0]]

    def table(self, title: str, rows: Sequence[Row], *, under: str = "") -> None:
        """Print a table at once: a long run that is broken off has shown something. One without rows is left out."""
        if not rows:
            return
        self.tables[title] = list(rows)
        print(f"\n{title}")
        for line in _lines(rows):
            print(f"  {line}")
        if under:
            print(f"  {under}")
        sys.stdout.flush()

    def reached(self, name: str, figure: Figure) -> None:
        """A figure for the floors."""
        self.figures[name] = figure

    def keep(self, title: str, rounds: Mapping[str, Sequence[Row]]) -> None:
        """The single rounds of a table."""
        if rounds:
            self.rounds[title] = rounds

    def note(self, what: str, why: object) -> None:
        """Something that is not in the tables."""
        note = f"{what}: {why}"
        if note not in self.notes:
            self.notes.append(note)
            progress(f"  {note}")

    def finish(self, file: Path | None) -> None:
        """Print what was left out; write everything to `file`."""
        self._load.append(os.getloadavg()[0])
        if self.notes:
            print("\nNot measured, or with errors")
            for note in self.notes:
                print(f"  {note}")
        print(f"\nLoad average {self._load[0]:.2f} before and {self._load[1]:.2f} after: trust ratios, not absolutes.")
        print(f"Python {platform.python_version()}, {_build()}.")
        if file is not None:
            machine = {
                "python": platform.python_version(),
                "build": _build(),
                "system": platform.platform(),
                "cores": os.cpu_count(),
                "load_average": self._load,
            }
            figures = {name: figure._asdict() for name, figure in self.figures.items()}
            document = {
                "machine": machine,
                "tables": self.tables,
                "figures": figures,
                "rounds": self.rounds,
                "notes": self.notes,
            }
            file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            progress(f"wrote {file}")


def _build() -> str:
    """How the interpreter was built: it shows in every figure of ours and in none of the peers'."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "an optimised build" if "--enable-optimizations" in options else "built without --enable-optimizations"


def _lines(rows: Sequence[Row]) -> list[str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _cell(value: str | float | None) -> str:
    match value:
        case None:
            return "–"
        case str():
            return value
        case int():
            return f"{value:,}"
        case _:
            return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 20 else f"{value:.2f}"
