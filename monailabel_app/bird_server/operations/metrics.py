"""Numbers for Prometheus: requests, seconds, jobs, stored bytes, the model in use, the process.

One registry, as there is one server per process. Knows nothing about HTTP; labels hold templates
of routes and states, never what a request named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from bird_server.service import in_use
from bird_vlm.version import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
_REQUESTS = Counter(
    "bird_requests", "Answered requests", ["method", "route", "status"], registry=REGISTRY
)
_DURATIONS = Histogram(
    "bird_request_seconds",
    "From a request's headers to the end of its answer",
    ["method", "route"],
    buckets=_SECONDS,
    registry=REGISTRY,
)


def count_request(method: str, route: str, status: int, seconds: float) -> None:
    """One request is answered; `route` is a template such as /infer/{model}."""
    _REQUESTS.labels(method, route, str(status)).inc()
    _DURATIONS.labels(method, route).observe(seconds)


class _Service(Collector):
    """What the service in use tells of itself, asked for only when somebody reads the metrics."""

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("bird", "This server", {"version": __version__})
        service = in_use()
        if service is None:
            return
        yield _by_state(service.jobs.counts())
        stored = service.store.stored_bytes()
        yield GaugeMetricFamily("bird_volumes_stored_bytes", "Uploaded volumes", stored)
        if service.is_loaded:
            card = service.card
            told = {"id": card.id, "device": card.device, "version": service.version}
            yield InfoMetricFamily("bird_model", "The model that answers", told)


REGISTRY.register(_Service())


def text() -> bytes:
    """All numbers in Prometheus' text format."""
    return generate_latest(REGISTRY)


def _by_state(counts: Mapping[str, int]) -> GaugeMetricFamily:
    jobs = GaugeMetricFamily("bird_jobs", "Jobs by state", labels=["state"])
    for state, number in sorted(counts.items()):
        jobs.add_metric([state], number)
    return jobs
