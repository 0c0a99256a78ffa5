"""Who tells whom, and how often? One occasion at a time: a newer one ends the attempts for the one before."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from drainproxy.announce.calls import CallError, call_http, load_client, run_command
from drainproxy.drain.announcement import Occasion, Told, pause_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.config.options import Config
    from drainproxy.config.values import Hook
    from drainproxy.net.tasks import Tasks
    from drainproxy.process.children import Children

_ELSEWHERE = ("192.0.2.1", 9)
"""Some other host (RFC 5737): a UDP socket that is connected to it tells our address, and sends nothing."""


class Announcer:
    """Makes the calls of `--on-ready`, `--on-drain` and `--on-resume`. `on_told` gets the result of each."""

    def __init__(self, config: Config, tasks: Tasks, children: Children) -> None:
        self.on_told: Callable[[Told], None] = _nobody
        self._config = config
        self._tasks = tasks
        self._children = children
        self._running: asyncio.Task[None] | None = None
        self._hooks = {
            Occasion.READY: config.on_ready,
            Occasion.DRAIN: config.on_drain,
            Occasion.RESUME: config.on_resume,
        }
        if any(hook is not None and hook.url for hook in self._hooks.values()):
            load_client()

    def tell(self, occasion: Occasion) -> None:
        """Begin the call for this occasion, if there is one."""
        if self._running is not None:
            self._running.cancel()
            self._running = None
        hook = self._hooks[occasion]
        if hook is not None:
            self._running = self._tasks.spawn(self._tell(occasion, hook), f"on-{occasion.value}")

    async def _tell(self, occasion: Occasion, hook: Hook) -> None:
        clock = asyncio.get_running_loop().time
        began, attempts = clock(), 0
        over_at = began + self._config.hook_limit_s
        variables = self._variables(occasion)
        while True:
            attempts += 1
            error = await self._attempt(hook, variables, min(over_at, clock() + self._config.hook_timeout_s))
            wait_s = pause_s(attempts)
            if error is None or clock() + wait_s >= over_at:
                self.on_told(Told(occasion, attempts, clock() - began, error))
                return
            await asyncio.sleep(wait_s)

    async def _attempt(self, hook: Hook, variables: dict[str, str], until: float) -> str | None:
        """Why it failed; None: it did not."""
        try:
            async with asyncio.timeout_at(until):
                if hook.words:
                    await run_command(hook, variables, self._children)
                else:
                    await call_http(hook, variables, self._config.hook_headers_file)
        except TimeoutError:
            return "no answer in time"
        except CallError as error:
            return str(error)
        return None

    def _variables(self, occasion: Occasion) -> dict[str, str]:
        """What a call may name: where clients find us, and why it is made."""
        listen = self._config.routes[0].listen
        return {
            "ADDRESS": listen.host or os.environ.get("POD_IP") or own_address(),
            "PORT": str(listen.port),
            "HOSTNAME": socket.gethostname(),
            "OCCASION": occasion.value,
        }


def own_address() -> str:
    """The address that others reach us at, as far as the routes of this host tell."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
            return str(probe.getsockname()[0])
        except OSError:  # no network
            return "127.0.0.1"


def _nobody(_: Told) -> None:
    pass
