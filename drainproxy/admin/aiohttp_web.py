"""aiohttp's server, without the price of its client: import `web` from here.

`import aiohttp` makes two client TLS contexts, with all of the system's CA certificates: 35 ms and 1 MB for something a
server never uses. While it is imported here, they are made empty.
"""

from __future__ import annotations

import ssl

_real = ssl.create_default_context
ssl.create_default_context = lambda *_, **__: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
try:
    from aiohttp import web
finally:
    ssl.create_default_context = _real

__all__ = ["web"]
