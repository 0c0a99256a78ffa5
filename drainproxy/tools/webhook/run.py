"""What does a webhook process do, from start to end? It fills caches, agrees on a certificate, answers, drains."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from drainproxy.errors import BindError, ConfigError
from drainproxy.tools.webhook.api import API_ERRORS, connect
from drainproxy.tools.webhook.audit import Audit
from drainproxy.tools.webhook.cache import NAMESPACES, POLICIES, SERVICES, Cache
from drainproxy.tools.webhook.metrics import Metrics
from drainproxy.tools.webhook.server import Admissions, admin_app
from drainproxy.tools.webhook.trust import Trust, agree, publish

if TYPE_CHECKING:
    from pathlib import Path

    from lightkube import AsyncClient

    from drainproxy.config.values import Address
    from drainproxy.tools.manifest.asked import Options

log = logging.getLogger(__name__)

TRUST_EVERY_S = 60.0
"""How often the certificate and the configuration are looked at."""
TRUST_RETRY_S = 2.0
QUIET_S, QUIET_LIMIT_S = 1.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`tls_dir`: certificates are somebody else's; None: made here, shared through `secret`."""

    listen: Address
    admin: Address
    namespace: str
    service: str
    secret: str
    configuration: str
    tls_dir: Path | None
    drain_s: float
    audit_every_s: float
    options: Options

    @property
    def dns_names(self) -> tuple[str, ...]:
        """What the API server calls the Service, and what people may."""
        return tuple(f"{self.service}.{self.namespace}.{tail}" for tail in ("svc", "svc.cluster.local"))


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT, and the drain after it. Raises BindError, NoClusterError, ConfigError."""
    ended = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, ended.set)
    async with connect(settings.namespace) as client:
        await _Webhook(settings, client, ended).run()


class _Webhook:
    def __init__(self, settings: Settings, client: AsyncClient, ended: asyncio.Event) -> None:
        self._settings, self._client, self._ended = settings, client, ended
        self._trust = Trust()
        self._is_trusted = False
        services, policies, namespaces = (
            Cache(client, each, time.monotonic) for each in (SERVICES, POLICIES, NAMESPACES)
        )
        self._caches = (services, policies, namespaces)
        self._audit = Audit(client, settings.options, self._around, settings.namespace)
        self._metrics = Metrics(self._caches, self._trust, lambda: self._audit.counts)
        self._admissions = Admissions(settings.options, self._around, self._metrics)

    async def run(self) -> None:
        tasks = [asyncio.create_task(each.run()) for each in self._caches]
        tasks.append(asyncio.create_task(self._keep_trusted()))
        tasks.append(asyncio.create_task(self._audit_when_filled()))
        try:
            await self._serve(tasks)
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, tasks: list[asyncio.Task[None]]) -> None:
        """Both servers, until the end is asked for; a task that ends by itself has failed."""
        admin = await _listening(admin_app(self._why_not_ready, self._metrics), self._settings.admin)
        answers = await _listening(self._admissions.app, self._settings.listen, ssl_context=self._trust.context)
        try:
            end = asyncio.create_task(self._ended.wait())
            done, _ = await asyncio.wait([end, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for each in done - {end}:
                each.result()
            log.info("draining: answering for %g s more", self._settings.drain_s)
            await self._admissions.drain(self._settings.drain_s, QUIET_S, QUIET_LIMIT_S)
        finally:
            await answers.cleanup()
            await admin.cleanup()

    def _why_not_ready(self) -> str:
        if self._ended.is_set():
            return "draining"
        waits = [each.kind for each in self._caches if not each.synced.is_set()]
        if waits:
            return f"not listed yet: {', '.join(waits)}"
        return "" if self._is_trusted else "no certificate yet that the API server trusts"

    def _around(self, namespace: str) -> list[dict[str, Any]]:
        return [each for cache in self._caches for each in cache.of(namespace)]

    async def _keep_trusted(self) -> None:
        """Look after the certificate, for ever. At the start a certificate that cannot be read is an error."""
        while True:
            wait = TRUST_EVERY_S
            try:
                await self._renew()
                self._is_trusted = True
            except (*API_ERRORS, ConfigError) as error:
                log.warning("certificate: %s", str(error) or type(error).__name__)
                wait = TRUST_RETRY_S
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - so that replicas do not ask in step

    async def _renew(self) -> None:
        settings = self._settings
        if settings.tls_dir is not None:
            self._trust.serve_files(settings.tls_dir)
            return
        material = await agree(self._client, settings.secret, settings.dns_names, datetime.now(UTC))
        await publish(self._client, settings.configuration, material.bundle)
        self._trust.serve(material.certificate, material.key)

    async def _audit_when_filled(self) -> None:
        for each in self._caches:
            await each.synced.wait()
        await self._audit.run(self._settings.audit_every_s)


async def _listening(app: web.Application, address: Address, ssl_context: Any = None) -> web.AppRunner:
    """The runner of a server that listens; `cleanup` closes it. Raises BindError."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=QUIET_LIMIT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host or None, address.port, ssl_context=ssl_context).start()
    except OSError as error:
        with suppress(Exception):
            await runner.cleanup()
        raise BindError(f"cannot listen on {address}: {error.strerror or error}") from None
    return runner
