"""What every server serves: a whole front proxy with one service, `/things/`, at the port in `THINGS_PORT`.

`python -m tests.servers.app PORT` serves it as `aggmw serve` does, on our door, in plain HTTP.
"""

from __future__ import annotations

import os
import sys

from aggmw import FrontProxy, PathService
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.server.serving import make_server, run

app = FrontProxy(
    anonymous=Anonymous.everywhere(),
    authorization=AllowAll(),
    services=[PathService("/things/", f"http://127.0.0.1:{os.environ['THINGS_PORT']}")],
)

if __name__ == "__main__":
    sys.exit(run(make_server(app, port=int(sys.argv[1]), drain=app.drain, grace=1)))
