"""What becomes of the Pods? A watch of one namespace: who is ready, who was deleted, who is gone, and when."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.kubectl import Kubectl

PATIENCE_S = 120.0
REFUSED_S = 0.5
"""Between two watches."""


@dataclass
class Pod:
    """What the API said last of one Pod. Times are of `time.monotonic`, when the news came."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    deleted_at: float | None = None
    gone_at: float | None = None

    @property
    def app(self) -> str:
        return str(self.facts["metadata"].get("labels", {}).get("app", ""))

    @property
    def address(self) -> str:
        return str(self.facts["status"].get("podIP", ""))

    @property
    def phase(self) -> str:
        return str(self.facts["status"].get("phase", ""))

    @property
    def ready(self) -> bool:
        conditions = self.facts["status"].get("conditions", [])
        return self.deleted_at is None and any(
            each["type"] == "Ready" and each["status"] == "True" for each in conditions
        )

    @property
    def took_s(self) -> float | None:
        """From its deletion until it was gone."""
        return None if self.deleted_at is None or self.gone_at is None else self.gone_at - self.deleted_at

    def container(self, name: str) -> dict[str, Any]:
        """The status of a container, native sidecars included; empty before there is one."""
        status = self.facts["status"]
        every = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
        return next((each for each in every if each["name"] == name), {})

    def last_words(self, container: str) -> str:
        """The termination message of a container; empty if it left none."""
        return str(self.container(container).get("state", {}).get("terminated", {}).get("message", ""))

    def restarts(self, container: str) -> int:
        return int(self.container(container).get("restartCount", 0))


class Pods:
    """All Pods that there are and were while the block runs, by name."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._news = asyncio.Condition()
        self._seen: dict[str, Pod] = {}
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch(), name="watch of Pods")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._watching is not None
        self._watching.cancel()
        with suppress(asyncio.CancelledError):
            await self._watching

    def of(self, app: str) -> list[Pod]:
        """Every Pod of the app that was ever seen, in the order of their making."""
        return [pod for pod in self._seen.values() if pod.app == app]

    def live(self, app: str) -> list[Pod]:
        return [pod for pod in self.of(app) if pod.deleted_at is None and pod.gone_at is None]

    def took_s(self, app: str) -> list[float]:
        return [pod.took_s for pod in self.of(app) if pod.took_s is not None]

    async def until(self, condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        """Wait for news that make `condition` true. Raises AssertionError with what there is instead."""
        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"not within {within_s:g} s; there is: {self._told()}") from None

    async def settled(self, within_s: float = PATIENCE_S) -> None:
        """No Pod that was deleted is still there."""
        await self.until(lambda: not any(p.deleted_at and not p.gone_at for p in self._seen.values()), within_s)

    async def _watch(self) -> None:
        """For ever: a server that has just started may refuse a watch at first."""
        while True:
            await self._follow()
            await asyncio.sleep(REFUSED_S)

    async def _follow(self) -> None:
        """One watch, until the server ends it."""
        process = await asyncio.create_subprocess_exec(
            *self._kubectl.argv("get", f"--raw=/api/v1/namespaces/{self._kubectl.namespace}/pods?watch=1"),
            stdout=asyncio.subprocess.PIPE,
            limit=2**22,
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                news = json.loads(line)
                if news["type"] == "ERROR":
                    return
                async with self._news:
                    self._note(news["type"], news["object"])
                    self._news.notify_all()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _note(self, kind: str, facts: dict[str, Any]) -> None:
        metadata = facts["metadata"]
        # A StatefulSet gives a name again: then it is another Pod.
        pod = self._seen.setdefault(metadata["uid"], Pod(metadata["name"]))
        pod.facts = facts
        if "deletionTimestamp" in metadata and pod.deleted_at is None:
            pod.deleted_at = time.monotonic()
        if kind == "DELETED":
            pod.gone_at = time.monotonic()
            pod.deleted_at = pod.deleted_at or pod.gone_at

    def _told(self) -> str:
        return ", ".join(
            f"{pod.name} {pod.phase} {'ready' if pod.ready else 'unready'}{' deleted' if pod.deleted_at else ''}"
            for pod in self._seen.values()
            if pod.gone_at is None
        )
