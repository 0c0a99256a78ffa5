"""How is the app started, and how is it told where to listen? What follows `--` under `run`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy.errors import ConfigError
from drainproxy.process.notify import without_manager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.config.values import Address

PORT, SOCKET = "{port}", "{socket}"


@dataclass(frozen=True, slots=True)
class AppCommand:
    """CMD, with `{port}` or `{socket}` where its address is to stand; `port_env`: the variable that holds its port."""

    words: tuple[str, ...] = ()
    port_env: str | None = None
    restart_on_hup: bool = False

    @property
    def movable(self) -> bool:
        """It can be told where to listen: so two of it can run side by side."""
        return self.port_env is not None or any(PORT in word or SOCKET in word for word in self.words)

    def check(self, upstreams: Sequence[Address]) -> None:
        """Raises ConfigError if the app is told an address that is not the one which requests are sent to."""
        if not self.movable:
            return
        if len(set(upstreams)) != 1:
            raise ConfigError("run", " ".join(self.words), "one --upstream, if CMD is told where to listen")
        by_socket = any(SOCKET in word for word in self.words)
        if by_socket is not bool(upstreams[0].path):
            raise ConfigError(
                "--upstream", str(upstreams[0]), "unix:/path.sock with {socket}, host:port with {port} and --port-env"
            )

    def at(self, address: Address) -> tuple[list[str], dict[str, str]]:
        """Arguments and environment of an app that is to listen there. systemd's socket is not for it."""
        words = [word.replace(PORT, str(address.port)).replace(SOCKET, address.path or "") for word in self.words]
        environ = without_manager(os.environ)
        return words, environ if self.port_env is None else {**environ, self.port_env: str(address.port)}
