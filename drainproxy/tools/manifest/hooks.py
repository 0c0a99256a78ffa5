"""What does a preStop hook do? Told from its text: wait for drainproxy, sleep, run a command, call a URL.

Facts: the kubelet runs one handler a container (`pkg/kubelet/lifecycle/handlers.go`); it ignores the status of an HTTP
answer, resolves a named port in the hook's own container, and dials the Pod's address unless `host` says otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from drainproxy.config.values import parse_duration
from drainproxy.tools.manifest.objects import mapping, mappings

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKEN_HEADER = "X-Drain-Token"  # noqa: S105 - the header's name
DRAIN_PATH = "/drain"
HOOK_PATH = "/drain?event=1"
"""What `inject` writes: `event=1` makes a forced drain visible as a FailedPreStopHook event."""

_SLEEP = re.compile(r"\s*(?:exec\s+)?(?:/(?:usr/)?bin/)?sleep\s+(\d+(?:\.\d+)?[smh]?)\s*;?\s*")
_DRAIN_COMMAND = re.compile(
    r"(?:^|[\s/'\"])drainproxy['\"]?\s+drain(?![\w-])"
    r"|(?:localhost|127\.0\.0\.1|\[::1\]|\$\{?\w+\}?)(?::[\w${}]+)?/drain(?=[?'\"\s;&|)]|$)"
)
"""Our own command, or a URL of this Pod with our path: a script that has the word in its name is somebody else's."""
_SHELLS = re.compile(r"(?:/(?:usr/)?bin/)?(?:ba|da|a|z)?sh")


class Does(Enum):
    """What happens when the hook runs."""

    NOTHING = "nothing"
    DRAIN = "waits for drainproxy"
    SLEEP = "sleeps"
    EXEC = "runs a command"
    HTTP = "calls a URL"
    TCP = "opens a TCP connection"


@dataclass(frozen=True, slots=True)
class Hook:
    """A preStop, read. `seconds` of a sleep; `argv` of a command; `http` the httpGet map."""

    does: Does
    seconds: float = 0.0
    argv: tuple[str, ...] = ()
    http: dict[str, Any] | None = None

    @property
    def token(self) -> str | None:
        """What the hook sends as the drain token, if anything."""
        for header in mappings((self.http or {}).get("httpHeaders")):
            name, value = str(header.get("name", "")).lower(), str(header.get("value", ""))
            if name == TOKEN_HEADER.lower():
                return value
            if name == "authorization" and value.lower().startswith("bearer "):
                return value[len("bearer ") :]
        return None


def pre_stop(container: dict[str, Any]) -> dict[str, Any]:
    """The container's preStop, or an empty map."""
    return mapping(mapping(container.get("lifecycle")).get("preStop"))


def read_hook(container: dict[str, Any]) -> Hook:
    """The container's preStop, understood."""
    handler = pre_stop(container)
    if "sleep" in handler:
        seconds = mapping(handler["sleep"]).get("seconds")
        return Hook(Does.SLEEP, seconds=float(seconds) if isinstance(seconds, int | float) else 0.0)
    if "exec" in handler:
        command = mapping(handler["exec"]).get("command")
        return _read_exec(tuple(str(word) for word in command) if isinstance(command, list) else ())
    if "httpGet" in handler:
        http = mapping(handler["httpGet"])
        is_drain = str(http.get("path", "/")).split("?")[0].rstrip("/") == DRAIN_PATH
        return Hook(Does.DRAIN if is_drain else Does.HTTP, http=http)
    return Hook(Does.TCP if "tcpSocket" in handler else Does.NOTHING)


def _read_exec(argv: tuple[str, ...]) -> Hook:
    words = " ".join(argv)
    script = shell_script(argv) or words
    sleep = _SLEEP.fullmatch(script)
    if sleep is not None:
        return Hook(Does.SLEEP, seconds=parse_duration(sleep[1]), argv=argv)
    if _DRAIN_COMMAND.search(words):
        return Hook(Does.DRAIN, argv=argv)
    return Hook(Does.EXEC if argv else Does.NOTHING, argv=argv)


def shell_script(argv: Sequence[str]) -> str | None:
    """The script of `sh -c SCRIPT`, with any flags of the shell (`-ec`, `-x -c`); None if it is no such command."""
    if not argv or not _SHELLS.fullmatch(argv[0]):
        return None
    for at, word in enumerate(argv[1:], 1):
        if not word.startswith("-") or word.startswith("--"):
            return None
        if "c" in word:
            return argv[at + 1] if at + 1 < len(argv) else None
    return None


def needs_shell(hook: Hook) -> bool:
    """Whether the command is one that an image without a userland does not have."""
    if not hook.argv:
        return False
    program = hook.argv[0].rsplit("/", 1)[-1]
    return bool(_SHELLS.fullmatch(program)) or program in ("sleep", "curl", "wget", "kill", "killall", "pkill", "test")


def http_hook(port: int, token: str | None) -> dict[str, Any]:
    """The preStop that waits for drainproxy, called by the kubelet: the port is a number, see the module's facts."""
    http: dict[str, Any] = {"path": HOOK_PATH, "port": port}
    if token:
        http["httpHeaders"] = [{"name": TOKEN_HEADER, "value": token}]
    return {"httpGet": http}


def exec_hook(client: str, port: int, then: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same from inside the app container: loopback needs no token. `then` is run when the drain is over."""
    url = f"http://127.0.0.1:{port}{HOOK_PATH}"
    call = {"curl": f"curl -sS -o /dev/null '{url}'", "wget": f"wget -q -O /dev/null '{url}'"}[client]
    if not then:
        return {"exec": {"command": ["/bin/sh", "-c", call]}}
    return {"exec": {"command": ["/bin/sh", "-c", f'{call}; exec "$@"', "sh", *then]}}
