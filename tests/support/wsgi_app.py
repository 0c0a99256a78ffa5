"""A WSGI app for gunicorn: echoes, streams, sleeps."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], None]) -> Iterable[bytes]:
    """Does what the path asks."""
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read()
    if path.startswith("/sleep/"):
        time.sleep(float(path.removeprefix("/sleep/")))
    if path == "/nothing":
        start_response("204 No Content", [])
        return []
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (f"{n}\n".encode() for n in range(1000))
    headers = {key: value for key, value in environ.items() if key.startswith("HTTP_")}
    seen = {"method": environ["REQUEST_METHOD"], "path": path, "headers": headers, "body": body.decode("latin-1")}
    text = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]
