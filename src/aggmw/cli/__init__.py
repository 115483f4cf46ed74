"""The command line: parse and call. Mistakes of the operator are a line each on standard error, and status 2."""

from __future__ import annotations

from aggmw.cli.main import app
from aggmw.cli.policy import policies
from aggmw.cli.why import why

__all__ = ["app"]

app.command()(why)
app.add_typer(policies, name="policy")
