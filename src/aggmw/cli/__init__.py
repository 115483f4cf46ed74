"""The command line: parse and call. Mistakes of the operator are a line each on standard error, and status 2."""

from __future__ import annotations

from aggmw.cli.main import app

__all__ = ["app"]
