"""Traces, as a real collector gets them: protocol buffers over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from index_sidecar.settings import Settings

from ..support.fake_torchserve import FakeTorchServe
from ..support.sidecar import running

_TRACE, _CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        sent = ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            assert any(each.value.string_value == "clip-archive" for each in resource.resource.attributes)
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


def _named(spans: Iterable[Span], name: str) -> Span:
    (span,) = (each for each in spans if each.name == name)
    return span


async def test_a_request_and_its_stages_are_spans_below_the_callers(settings: Settings, fake: FakeTorchServe) -> None:
    collector = Collector()
    async with collector.server as server:
        traced = replace(settings, otel_exporter_otlp_endpoint=str(server.make_url("")))
        async with running(traced) as sidecar:
            headers = {"traceparent": f"00-{_TRACE}-{_CALLER}-01"}
            reply = await sidecar.call(
                "POST", "/add_content", b"a secret text", params={"id": "secret-id", "type": "text"}, headers=headers
            )
            assert reply.status == 201
            await sidecar.call("GET", "/contents/secret-other")
            asked = next(each for each in fake.requests if each.data == b"a secret text")
        # Closing it has sent what was left.
        await asyncio.sleep(0)
    added = _named(collector.spans, "POST /add_content")
    assert (added.trace_id.hex(), added.parent_span_id.hex()) == (_TRACE, _CALLER)
    assert {each.key: each.value.int_value or each.value.string_value for each in added.attributes} == {
        "http.request.method": "POST",
        "http.route": "/add_content",
        "http.response.status_code": 201,
    }
    below = [each for each in collector.spans if each.parent_span_id == added.span_id]
    assert {each.name for each in below} == {"wait", "embed", "commit", "index"}
    embed = _named(below, "embed")
    assert asked.trace_parent == f"00-{_TRACE}-{embed.span_id.hex()}-01"
    assert added.start_time_unix_nano < embed.start_time_unix_nano < embed.end_time_unix_nano < added.end_time_unix_nano
    assert _named(collector.spans, "GET /contents/{id}").status.code == 0  # a 404 is no fault of the server's
    assert b"secret" not in b"".join(each.SerializeToString() for each in collector.spans)


async def test_a_collector_that_is_away_costs_nobody_anything(settings: Settings) -> None:
    async with running(replace(settings, otel_exporter_otlp_endpoint="http://127.0.0.1:9")) as sidecar:
        assert (await sidecar.add("a", b"a cat")).status == 201
        assert await sidecar.found(b"a cat") == ["a"]


async def test_without_a_collector_nothing_is_traced(settings: Settings, fake: FakeTorchServe) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"a cat")
    assert {each.trace_parent for each in fake.requests} == {None}
