"""The pages of the documentation, taken apart: fenced blocks, and the commands of those that are transcripts."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "ROOT", "Block", "Command", "blocks", "pages"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<options>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Command:
    """One command of a transcript.

    Args:
        text: without the prompts.
        output: what the page says it prints, without the last line break.
        line: where, in the page.
    """

    text: str
    output: str
    line: int


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: relative to the project.
        line: of its opening fence.
        language: "" for none.
        title: the file that it is, or "".
        text: dedented, with the last line break.
    """

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[Command]:
        """`$ ` begins a command, `> ` continues one that ends in a backslash; the rest is output, up to the next one.

        So does the highlighter of the site, whose button copies the commands alone.
        """
        found: list[tuple[int, list[str], list[str]]] = []
        for number, line in enumerate(self.text.splitlines(), self.line + 1):
            if line.startswith("$ "):
                found.append((number, [line[2:]], []))
            elif not found:
                raise ValueError(f"{self.page}:{number}: a transcript begins with a command: $ …")
            elif line.startswith("> ") and found[-1][1][-1].endswith("\\") and not found[-1][2]:
                found[-1][1].append(line[2:])
            else:
                found[-1][2].append(line)
        return [Command("\n".join(text), "\n".join(output), line) for line, text, output in found]


def pages() -> list[Path]:
    """README and every page of the site."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=str(page.relative_to(ROOT)),
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            title=title[1] if (title := _TITLE.search(match["options"])) else "",
            text=textwrap.dedent(match["text"]),
        )
        for match in _FENCE.finditer(text)
    ]
