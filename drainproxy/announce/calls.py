"""How is one call made? Over HTTP, or as a command without a shell. What goes wrong is a CallError."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from drainproxy import __version__
from drainproxy.drain.announcement import filled
from drainproxy.errors import ChildError, DrainproxyError
from drainproxy.trust import trusting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drainproxy.config.values import Hook
    from drainproxy.process.children import Children

_MOST_SAID = 200
_WHO = {"User-Agent": f"drainproxy/{__version__}"}


class CallError(DrainproxyError):
    """A call that did not succeed."""


def load_client() -> None:
    """Load what `call_http` needs: at start, because it takes so long that clients would wait for it later."""
    from aiohttp import ClientSession  # noqa: F401, PLC0415 - a sidecar without hooks needs no HTTP client


async def call_http(hook: Hook, variables: Mapping[str, str], headers_file: str | None) -> None:
    """The request; any status from 200 to 299 is success. Raises CallError. Redirects are not followed."""
    import aiohttp  # noqa: PLC0415 - as above

    url, body = filled(hook.url, variables), filled(hook.body, variables)
    headers = {} if headers_file is None else _headers(headers_file)
    if body.startswith(("{", "[")):
        headers.setdefault("Content-Type", "application/json")
    trust = await asyncio.to_thread(trusting) if url.startswith("https:") else True
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust), headers=_WHO) as session,
            session.request(hook.method, url, data=body or None, headers=headers, allow_redirects=False) as answer,
        ):
            if answer.ok and answer.status < 300:  # noqa: PLR2004 - the end of "successful", RFC 9110 section 15.3
                return
            said = (await answer.text(errors="replace"))[:_MOST_SAID].strip()
            raise CallError(f"{answer.status} {said}".strip())
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise CallError(str(error) or type(error).__name__) from error


async def run_command(hook: Hook, variables: Mapping[str, str], children: Children) -> None:
    """The program; exit code 0 is success. Raises CallError. It is killed if this is cancelled."""
    environ = {**os.environ, **{f"DRAINPROXY_{name}": value for name, value in variables.items()}}
    try:
        child = children.start([filled(word, variables) for word in hook.words], environ)
    except ChildError as error:
        raise CallError(str(error)) from error
    try:
        code = await asyncio.shield(child.exited)
    except asyncio.CancelledError:
        child.kill()
        raise
    if code:
        raise CallError(f"{hook.words[0]} ended with {code}")


def _headers(path: str) -> dict[str, str]:
    """`Name: value`, one a line; read for each call, so that a token may be rotated. Raises CallError."""
    try:
        lines = Path(path).read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise CallError(f"{path}: {error.strerror}") from error
    pairs = [line.partition(":") for line in lines if line.strip()]
    if not all(colon and name.strip() for name, colon, _ in pairs):
        raise CallError(f"{path}: expected lines of the form Name: value")
    return {name.strip(): value.strip() for name, _, value in pairs}
