"""`/version`: what the front proxy says it is (`k8s.io/apimachinery/pkg/version.Info`, wire contract §3.5)."""

from __future__ import annotations

import json
import platform
import re
import sys
from dataclasses import dataclass

__all__ = ["VersionInfo"]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """What `/version` answers.

    Args:
        major, minor: of the Kubernetes API whose behaviour is followed; clients compare them with their own.
        git_version: as clients parse it; by default `v<major>.<minor>.0+aggmw-<our version>`.
        git_commit, build_date: of the build, where there is one.
    """

    major: str = "1"
    minor: str = "37"
    git_version: str = ""
    git_commit: str = ""
    build_date: str = "1970-01-01T00:00:00Z"

    def document(self) -> bytes:
        """Indented JSON, as `kubectl get --raw /version` shows it."""
        return json.dumps(
            {
                "major": self.major,
                "minor": self.minor,
                "emulationMajor": self.major,
                "emulationMinor": self.minor,
                "minCompatibilityMajor": self.major,
                "minCompatibilityMinor": self.minor,
                "gitVersion": self.git_version or f"v{self.major}.{self.minor}.0+aggmw-{_own_version()}",
                "gitCommit": self.git_commit,
                "gitTreeState": "clean",
                "buildDate": self.build_date,
                "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
                "compiler": sys.implementation.name,
                "platform": _platform(),
            },
            indent=2,
        ).encode()


def _own_version() -> str:
    """The version of this distribution, with nothing in it that semantic versions forbid."""
    from importlib import metadata  # needed once, and slow to import

    try:
        version = metadata.version("aggmw")
    except metadata.PackageNotFoundError:
        version = "0"
    return re.sub(r"[^0-9A-Za-z.-]", ".", version)


def _platform() -> str:
    machine = platform.machine().lower()
    return f"{sys.platform}/{_ARCHITECTURES.get(machine, machine)}"
