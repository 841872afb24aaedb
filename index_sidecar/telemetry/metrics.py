"""What Prometheus is told. No label holds an id, a user or anything of a query, so the series are bounded.

Counters and histograms are kept as requests end; how the archive is, is looked at when somebody scrapes. Names follow
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..archive.stages import Stage
from .state import State

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


class Metrics:
    """A registry of the application's own; two applications in one process do not meet."""

    def __init__(self, codes: Iterable[str]) -> None:
        """`codes` of errors are counted from 0 on: Prometheus sees no rise where a series begins with 1."""
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._requests = Counter(
            "clip_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self._errors = Counter(
            "clip_errors", "Requests that ended in an error, by its code.", ["code"], registry=self.registry
        )
        for code in codes:
            self._errors.labels(code)
        self._seconds = Histogram(
            "clip_request_seconds",
            "From the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "clip_stage_seconds",
            "Of a request: waiting for its turn, embedding, searching, committing, changing the index.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._archive = _Archive()
        self.registry.register(self._archive)

    def answered(
        self, route: str, method: str, status: str, seconds: float, stages: Mapping[Stage, float], code: str | None
    ) -> None:
        """A request has ended, or its caller is `gone`; `route` is its path's template, `code` that of its error."""
        self._requests.labels(route, method if method in _METHODS else "other", status).inc()
        self._seconds.labels(route).observe(seconds)
        for stage, spent in stages.items():
            self._stages.labels(stage).observe(spent)
        if code is not None:
            self._errors.labels(code).inc()

    def look(self, state: State) -> None:
        """What the next scrape tells of the archive."""
        self._archive.state = state


class _Archive:
    """Tells how the archive was when it was last looked at; what could not be known is left out."""

    state: State | None = None

    def collect(self) -> Iterator[Metric]:
        state = self.state
        if state is None:
            return
        gauges = {
            "clip_ready": ("1 when the index holds everything that the store holds.", state.ready),
            "clip_embedder_up": ("1 when the model answered the last time it was asked.", state.embedder),
            "clip_storage_up": ("1 when stored contents can be read.", state.storage),
            "clip_body_bytes": ("Memory that the bodies of requests hold.", state.body_bytes),
            "clip_erasures_due": ("Contents out of every answer whose bytes are still in a file.", state.erasures_due),
            "clip_query_cache_entries": ("Queries whose vectors are kept.", state.cached_queries),
        }
        for name, (told, value) in gauges.items():
            yield GaugeMetricFamily(name, told, float(value))
        turned_away = "Requests refused for overload before anything of them was read; no other metric counts them."
        yield CounterMetricFamily("clip_turned_away", turned_away, state.turned_away)
        yield _gauges("clip_lane_waiting", "Contents that wait for the model.", "lane", state.waiting)
        yield _counters("clip_lane_refused", "Contents that would have waited too long.", "lane", state.refused)
        yield _counters("clip_query_cache", "Queries, by whether their vector was kept.", "result", state.cache)
        yield _counters("clip_store", "What the store did.", "event", state.store)
        yield _counters("clip_index", "What the index did.", "event", state.index)
        yield _gauges("clip_originals_bytes", "What kept originals take on the disk.", "type", state.originals)
        yield from _indexes(state)


def _indexes(state: State) -> Iterator[Metric]:
    """How the contents of each type are searched."""
    approximate = GaugeMetricFamily(
        "clip_index_approximate", "1 when a type is searched approximately.", labels=["type"]
    )
    contents = GaugeMetricFamily("clip_contents", "Contents that can be found.", labels=["type"])
    memory = GaugeMetricFamily("clip_index_bytes", "Memory of the vectors.", labels=["type"])
    recall = GaugeMetricFamily("clip_index_recall", "Measured recall@10.", labels=["type", "from"])
    build = GaugeMetricFamily("clip_index_build_ratio", "Part of a build that is done.", labels=["type"])
    for name, each in state.types.items():
        approximate.add_metric([name], float(each.kind == "approximate"))
        contents.add_metric([name], each.size)
        if each.memory_bytes is not None:
            memory.add_metric([name], each.memory_bytes)
        for direction, value in (each.recall or {}).items():
            recall.add_metric([name, direction.partition("->")[0]], value)
        if each.build is not None:
            build.add_metric([name], each.build)
    yield from (contents, approximate, memory, recall, build)


def _gauges(name: str, told: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counters(name: str, told: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, told, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
