"""`aggmw serve` whose supervisor gives up on a silent worker after four seconds, and soon on one that drains too long.

Run as a script.
"""

from __future__ import annotations

import sys

from aggmw.cli import app
from aggmw.server.workers import supervisor

if __name__ == "__main__":
    supervisor._HUNG_SECONDS = 4
    supervisor._GRACE_MARGIN = 1.0
    sys.argv.insert(1, "serve")
    app()
