"""What Prometheus scrapes, and what is counted for it as each request ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.aiohttp import make_aiohttp_handler

from ..archive.content import ContentType, IndexState
from ..archive.errors import StorageUnavailable
from ..archive.stages import begin, spent
from ..telemetry.metrics import Metrics
from ..telemetry.state import State
from .door import DOOR
from .handlers import BODIES, EMBEDDER, SERVICE
from .middlewares import CODE, route_of
from .query import Query

METRICS = web.AppKey("metrics", Metrics)
MEDIA = ("text/plain", "application/openmetrics-text")
_LOOK_S = 2.0  # a scraper gives up after ten


@web.middleware
async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request and what it took, also when its caller has left."""
    begin()
    started, status = time.perf_counter(), "gone"
    try:
        response = await handler(request)
        status = str(response.status)
        return response
    finally:
        seconds = time.perf_counter() - started
        request.app[METRICS].answered(route_of(request), request.method, status, seconds, spent(), request.get(CODE))


async def metrics(request: web.Request, query: Query) -> web.StreamResponse:
    """Counters, latencies and gauges, as Prometheus reads them."""
    measured = request.app[METRICS]
    measured.look(await _state(request.app))
    return await make_aiohttp_handler(measured.registry, disable_compression=True)(request)


async def _state(app: web.Application) -> State:
    service = app[SERVICE]
    types: dict[ContentType, IndexState] = {}
    originals: Mapping[ContentType, int] = {}
    storage = False
    with contextlib.suppress(StorageUnavailable, TimeoutError):
        async with asyncio.timeout(_LOOK_S):
            await service.check_storage()
            storage, types = True, await service.index_states()
            originals = await service.originals.size_bytes()
    store, index = service.events()
    lanes, queries = service.model.lanes, service.model.queries
    return State(
        ready=service.is_ready(),
        embedder=app[EMBEDDER].answers(),
        storage=storage,
        body_bytes=app[BODIES].held(),
        turned_away=app[DOOR].turned_away,
        erasures_due=service.erasures_due(),
        waiting={lane.value: lanes.depth(lane) for lane in lanes.refused},
        refused={lane.value: count for lane, count in lanes.refused.items()},
        cached_queries=len(queries),
        cache={"hit": queries.hits, "miss": queries.misses},
        store=store,
        index=index,
        types=types,
        originals=originals,
    )
