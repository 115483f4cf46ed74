"""`/version`: what clients parse."""

from __future__ import annotations

import json
import re

from aggmw.middleware.discovery import VersionInfo


def test_fields() -> None:
    """§3.5: major and minor are texts, and every field that clients require is there."""
    document = json.loads(VersionInfo().document())
    assert (document["major"], document["minor"]) == ("1", "37")
    assert {"gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"} < document.keys()
    assert all(isinstance(value, str) for value in document.values())


def test_git_version_is_a_semantic_version() -> None:
    """kubectl parses `vX.Y.Z+build` strictly."""
    git_version = json.loads(VersionInfo().document())["gitVersion"]
    assert re.fullmatch(r"v1\.37\.0\+aggmw-[0-9A-Za-z.-]+", git_version)


def test_own_values() -> None:
    """An embedding product may say what it is; the document is indented."""
    document = VersionInfo("1", "33", "v1.33.2+k3s1").document()
    assert json.loads(document)["gitVersion"] == "v1.33.2+k3s1"
    assert document.startswith(b'{\n  "major": "1",\n')
