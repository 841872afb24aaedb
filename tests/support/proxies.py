"""A proxy as operators put before the archive."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from .sidecar import Sidecar

PREFIX = "/tools/clip"


@contextlib.asynccontextmanager
async def behind_a_proxy(sidecar: Sidecar) -> AsyncIterator[str]:
    """The address of a proxy that publishes the sidecar below a path, which it strips."""
    asked = aiohttp.ClientSession(auto_decompress=False)

    async def forward(request: web.Request) -> web.Response:
        path = request.raw_path.removeprefix(PREFIX)
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        async with asked.request(
            request.method, sidecar.url + path, headers=headers, data=await request.read()
        ) as answer:
            passed = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
            return web.Response(body=await answer.read(), status=answer.status, headers=passed)

    app = web.Application()
    app.router.add_route("*", PREFIX + "/{path:.*}", forward)
    async with asked, TestServer(app) as server:
        yield str(server.make_url(PREFIX))
