"""A headless Chromium that a test steers by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from websockets.sync.client import connect

from tests.support.apps import need
from tests.support.proxy import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.sync.client import ClientConnection

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
]
_LISTENING = re.compile(r"DevTools listening on (ws://\S+)")


@dataclass
class Browser:
    """One page of it."""

    wire: ClientConnection
    session: str = ""
    _number: int = 0

    def call(self, method: str, **parameters: Any) -> Any:
        """One command; what it gives. Raises AssertionError if it is refused."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self.wire.send(json.dumps({**message, "sessionId": self.session} if self.session else message))
        while True:
            answer = json.loads(self.wire.recv(timeout=30))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def open(self, url: str) -> None:
        """Go there."""
        self.call("Page.navigate", url=url)

    def await_true(self, script: str) -> None:
        """Wait until an expression is true; between two pages there may be nothing that it speaks of."""
        wait_for(lambda: self.run(f"(() => {{ try {{ return {script} }} catch {{ return false }} }})()"), script)

    def size(self, width: int, height: int) -> None:
        """The window's, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def key(self, key: str) -> None:
        """Press a key: Tab, Enter, Escape."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)
            text = {}

    def picture(self, path: Path) -> None:
        """The whole page, as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A fresh one, with its profile in `folder`."""
    command = [need("chromium", "chromium"), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    try:
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "Chromium has ended before it listened"
            found = _LISTENING.search(line)
        with connect(found[1], max_size=None) as wire:
            made = Browser(wire)
            target = made.call("Target.createTarget", url="about:blank")["targetId"]
            made.session = made.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            made.call("Page.enable")
            yield made
            made.session = ""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
