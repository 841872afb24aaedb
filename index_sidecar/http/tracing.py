"""The middleware that traces requests; without a collector there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from .middlewares import route_of


class Tracer(Protocol):
    """What telemetry/tracing.py has where its packages are installed."""

    def request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[Callable[[str, int], None]]:
        """A span for a request, told its route and its status before it ends."""


def traced_by(tracer: Tracer) -> Middleware:
    """Every request as a span, named by its route's template."""

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        known = request.match_info.route.resource is not None
        headers = {name: request.headers[name] for name in ("traceparent", "tracestate") if name in request.headers}
        with tracer.request(request.method if known else "HTTP", headers) as ended:
            response = await handler(request)
            ended(route_of(request), response.status)
            return response

    return trace
