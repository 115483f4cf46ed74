"""`python -m aggmw` and the script `aggmw`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        import typer as _typer  # noqa: F401  asked for by name: a missing module of our own is a fault, not an extra
        import uvicorn as _uvicorn  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("aggmw: the command line is an extra; install it with: pip install 'aggmw[cli]'")
    from aggmw.cli import app

    app()


if __name__ == "__main__":
    main()
