"""OpenTelemetry traces: a span for each request, within it one for each stage. Spans name no id, user or query.

This module alone needs the extra `otel`. Names follow https://opentelemetry.io/docs/specs/semconv/http/http-spans/.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..archive.request_id import trace_parent
from ..archive.stages import Stage, watch

_EXPORT_S = 5  # a collector that does not answer holds up the end so long, and nothing else
_HEADERS = TraceContextTextMapPropagator()
Ended = Callable[[str, int], None]


class Tracing:
    """Sends spans to a collector in the background; what it cannot take in time is dropped."""

    def __init__(self, collector: str, version: str) -> None:
        """`collector` is its base URL; OTEL_RESOURCE_ATTRIBUTES and samplers are read by OpenTelemetry itself."""
        resource = Resource.create({"service.name": "clip-archive", "service.version": version})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(f"{collector.rstrip('/')}/v1/traces", timeout=_EXPORT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=1000 * _EXPORT_S))
        self._tracer = self._provider.get_tracer("index_sidecar", version)

    @contextlib.contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Ended]:
        """A span, below the caller's where `headers` name one. Call what it gives with the route and the status."""
        with self._tracer.start_as_current_span(
            method, context=_HEADERS.extract(headers), kind=SpanKind.SERVER, record_exception=False
        ) as span:
            watch(self._stage)

            def ended(route: str, status: int) -> None:
                span.update_name(f"{method} {route}")
                span.set_attributes(
                    {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                )
                if status >= 500:
                    span.set_status(StatusCode.ERROR)

            yield ended

    @contextlib.contextmanager
    def _stage(self, name: Stage) -> Iterator[None]:
        with self._tracer.start_as_current_span(name, record_exception=False):
            carrier: dict[str, str] = {}
            _HEADERS.inject(carrier)
            before = trace_parent.set(carrier.get("traceparent"))
            try:
                yield
            finally:
                trace_parent.reset(before)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
