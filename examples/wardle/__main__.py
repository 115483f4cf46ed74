"""Starts the server by this file's path, wherever the folder was put."""

import sys
from pathlib import Path

if __package__:
    from .serve import main
else:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from wardle.serve import main

if __name__ == "__main__":
    sys.exit(main())
