"""What does the webhook count? Names and labels are API; docs/webhook.md lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

from drainproxy import __version__
from drainproxy.tools.manifest.admitted import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from drainproxy.tools.webhook.cache import Cache
    from drainproxy.tools.webhook.trust import Trust

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Seconds; the API server gives up after five."""


class Metrics:
    """Counters of one process, and what is read off the caches and the certificate at each scrape."""

    def __init__(self, caches: Sequence[Cache], trust: Trust, audited: Callable[[], Mapping[tuple[str, str], int]]):
        self.registry = CollectorRegistry()
        self._caches, self._trust, self._audited = caches, trust, audited
        self.admissions = Counter(
            "drainproxy_webhook_admissions", "Pods that were asked about.", ["outcome"], registry=self.registry
        )
        for each in Outcome:
            self.admissions.labels(each.value)
        self.duration = Histogram(
            "drainproxy_webhook_admission_duration_seconds",
            "From the whole question to the answer.",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """What is read off at a scrape."""
        info = GaugeMetricFamily("drainproxy_webhook_build_info", "1, for the version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        age = GaugeMetricFamily(
            "drainproxy_webhook_cache_age_seconds", "Since the API server was last heard; 0: now.", labels=["kind"]
        )
        for each in self._caches:
            age.add_metric([each.kind], each.age_s)
        yield age
        if self._trust.expires is not None:
            yield GaugeMetricFamily(
                "drainproxy_webhook_certificate_expiry_timestamp_seconds",
                "When the certificate that is served ends.",
                value=self._trust.expires.timestamp(),
            )
        missing = GaugeMetricFamily(
            "drainproxy_webhook_audit_pods",
            "Pods that should have this version's sidecar and have not, at the last audit.",
            labels=["namespace", "reason"],
        )
        for (namespace, reason), count in sorted(self._audited().items()):
            missing.add_metric([namespace, reason], count)
        yield missing
