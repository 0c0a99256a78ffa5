"""Does the webhook keep up with an API server: changes, gaps, outages, and other replicas?"""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drainproxy.tools.webhook import cache as caching
from drainproxy.tools.webhook.audit import Audit
from drainproxy.tools.webhook.cache import NAMESPACES, SERVICES, Cache
from drainproxy.tools.webhook.certificates import read_secret
from drainproxy.tools.webhook.trust import agree, publish
from tests.tools.webhook.api import Api, served
from tests.unit.tools.webhook.test_admission import OPTIONS, WEB, pod
from tests.unit.tools.webhook.test_audit import LABEL, OWNER, live

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest
    from lightkube import AsyncClient

NAMES = ("hook.hook.svc",)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.01)


def named(name: str, namespace: str = "n") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": "3", "managedFields": [{}]}}


def names(cache: Cache, namespace: str = "n") -> list[str]:
    return sorted(each["metadata"]["name"] for each in cache.of(namespace))


@asynccontextmanager
async def running(client: AsyncClient, resource: Any) -> AsyncIterator[Cache]:
    cache = Cache(client, resource, time.monotonic)
    task = asyncio.create_task(cache.run())
    try:
        yield cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_lists_and_then_follows_every_change() -> None:
    api = Api()
    api.objects["services"] = [named("web"), named("web", "other")]
    async with served(api) as client, running(client, SERVICES) as cache:
        await cache.synced.wait()
        assert (names(cache), names(cache, "other"), names(cache, "none")) == (["web"], ["web"], [])
        assert [each["kind"] for each in cache.of("n")] == ["Service"]
        assert "managedFields" not in next(iter(cache.of("n")))["metadata"]
        await until(lambda: api.watches)
        api.change("services", "ADDED", named("late", "fresh"))
        api.change("services", "DELETED", named("web"))
        api.change("services", "MODIFIED", {**named("web", "other"), "spec": {"x": 1}})
        await until(lambda: not names(cache))
        await until(lambda: any("spec" in each for each in cache.of("other")))
        assert names(cache, "fresh") == ["late"]
        assert cache.age_s == 0


async def test_a_namespace_is_found_under_its_own_name() -> None:
    api = Api()
    api.objects["namespaces"] = [{"metadata": {"name": "n", "resourceVersion": "1"}}]
    async with served(api) as client, running(client, NAMESPACES) as cache:
        await cache.synced.wait()
        assert names(cache) == ["n"]


async def test_after_a_gap_it_lists_anew() -> None:
    api = Api()
    api.objects["services"] = [named("web")]
    async with served(api) as client, running(client, SERVICES) as cache:
        await until(lambda: api.watches)
        api.objects["services"] = [named("new")]
        api.gone()
        await until(lambda: names(cache) == ["new"])


async def test_what_was_missed_is_seen_at_the_next_resync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "RESYNC_S", 0.2)
    api = Api()
    async with served(api) as client, running(client, SERVICES) as cache:
        await until(lambda: api.watches)
        api.objects["services"] = [named("silent")]
        await until(lambda: names(cache) == ["silent"])


async def test_while_the_api_server_is_away_the_last_known_objects_stay_and_grow_old() -> None:
    api = Api()
    api.objects["services"] = [named("web")]
    async with served(api) as client, running(client, SERVICES) as cache:
        await until(lambda: api.watches)
        api.down = True
        api.gone()
        await until(lambda: cache.age_s > 0)
        assert names(cache) == ["web"]
        api.objects["services"] = [named("back")]
        api.down = False
        await until(lambda: names(cache) == ["back"])


async def test_at_first_it_asks_until_it_is_answered() -> None:
    api = Api()
    api.down = True
    async with served(api) as client, running(client, SERVICES) as cache:
        await asyncio.sleep(0)
        assert not cache.synced.is_set()
        api.down = False
        async with asyncio.timeout(30):
            await cache.synced.wait()


async def test_replicas_that_start_together_agree_on_one_certificate() -> None:
    api = Api()
    async with served(api) as client:
        now = datetime.now(UTC)
        made = await asyncio.gather(*(agree(client, "keys", NAMES, now) for _ in range(4)))
        assert len({each.certificate for each in made}) == 1
        assert api.secret_writes == 1
        assert read_secret(api.secret["data"]) == made[0]


async def test_the_bundle_is_published_to_every_webhook_and_only_when_it_changes() -> None:
    api = Api()
    async with served(api) as client:
        await publish(client, "drainproxy", b"authority")
        wanted = base64.b64encode(b"authority").decode()
        assert [each["clientConfig"] for each in api.configuration["webhooks"]] == [{"caBundle": wanted}] * 2
        before = api.configuration
        await publish(client, "drainproxy", b"authority")
        assert api.configuration is before


async def test_the_audit_counts_bare_pods_and_tells_each_owner_once() -> None:
    api = Api()
    bare = live(pod(WEB), ownerReferences=[OWNER])
    second = {**bare, "metadata": {**bare["metadata"], "name": "shop-1-y"}}
    spared = {**bare, "metadata": {**bare["metadata"], "namespace": "kube-system"}}
    own = {**bare, "metadata": {**bare["metadata"], "namespace": "drainproxy"}}
    api.objects["pods"] = [bare, second, spared, own]
    around = [{"kind": "Namespace", "metadata": {"name": "n", **LABEL["metadata"]}}]
    async with served(api) as client:
        audits = [Audit(client, OPTIONS, lambda _name: around, "drainproxy") for _ in range(2)]
        for each in [*audits, audits[0]]:
            await each.look()
        assert audits[0].counts == {("n", "missing"): 2}
        assert [(each["involvedObject"]["name"], each["reason"]) for each in api.events] == [
            ("shop-1", "DrainproxySidecarMissing")
        ]
        api.objects["pods"] = []
        await audits[0].look()
        assert audits[0].counts == {}
