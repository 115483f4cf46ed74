"""The README's demo, followed as a reader would: what it prints, what the commands print, and what the log then has."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tests.docs.following import follow
from tests.docs.pages import ROOT, blocks

PAGE = blocks(ROOT / "README.md")


def test_the_demo(tmp_path: Path, kubectl_program: Path) -> None:
    """In an empty directory, from the start of the demo to the line in the API server's log."""
    (banner,) = [block for block in PAGE if block.language == "text"]
    (transcript,) = [block for block in PAGE if block.language == "console"]
    (line,) = [block for block in PAGE if block.language == "json"]
    chosen_by_the_system = r"(?<=127\.0\.0\.1:)\d{5}|(?<=process )\d+ *"
    printed = re.sub(chosen_by_the_system, "…", banner.text)
    start = replace(transcript, text=f"$ aggmw demo --port 6443 &\n{printed}", line=banner.line)
    path = '"path": "/apis/wardle.example.com/v1alpha1/namespaces/dev/flunders", "query": "limit=500"'
    log = replace(line, language="console", text=f"$ grep '{path}' .demo/wardle.log | tail -n 1\n{line.text}")
    follow([start, transcript, log], tmp_path)
