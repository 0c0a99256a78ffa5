"""What if an app hangs and has to be restarted? The plain app, whose /healthz fails after a GET of /break."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from drainproxy.tools.cluster.plain_app import Handler, Server


class Breakable(Handler):
    """Broken until the process is restarted; answers everything else as before."""

    broken: ClassVar[bool] = False

    def do_GET(self) -> None:
        if self.path == "/break":
            type(self).broken = True
        if self.path == "/healthz" and self.broken:
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()


if __name__ == "__main__":
    Server((os.environ["POD_IP"], int(sys.argv[1])), Breakable).serve_forever()
