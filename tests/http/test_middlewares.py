"""What happens around every call, whatever the call does; here around the smallest app there can be."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from index_sidecar import logs
from index_sidecar.archive.errors import NotFound
from index_sidecar.archive.request_id import request_id
from index_sidecar.http.middlewares import answer_errors, log_access, name_request, tell_name

logger = logging.getLogger("index_sidecar.test")


async def _break(request: web.Request) -> web.StreamResponse:
    await asyncio.to_thread(logger.warning, "about to break")
    raise ZeroDivisionError(f"with what nobody should read: {request.match_info['id']}")


async def _miss(request: web.Request) -> web.StreamResponse:
    raise NotFound("no content has this id")


def _app() -> web.Application:
    app = web.Application(middlewares=[name_request, log_access, answer_errors])
    app.on_response_prepare.append(tell_name)
    app.router.add_get("/broken/{id}", _break)
    app.router.add_get("/missing/{id}", _miss)
    return app


async def test_a_failure_inside_us_says_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(logs.name_request)
    async with TestClient(TestServer(_app())) as client:
        reply = await client.get("/broken/private", headers={"X-Request-ID": "id-1"})
        body = await reply.json()
    assert reply.status == 500
    message = "an unexpected error, which the log describes"
    assert body == {"error": {"code": "internal", "message": message, "request_id": "id-1"}}
    assert "ZeroDivisionError" in caplog.text
    ours = [record for record in caplog.records if record.name.startswith("index_sidecar")]
    assert [record.message for record in ours] == ["about to break", "unexpected error"]
    assert {record.__dict__["request_id"] for record in ours} == {"id-1"}


async def test_the_access_log_names_the_route_and_each_request_has_an_id_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.handler.addFilter(logs.name_request)
    with caplog.at_level(logging.INFO, "index_sidecar.access"):
        async with TestClient(TestServer(_app())) as client:
            paths = ["/missing/private", "/broken/private", "/private/private", "/missing/private?private=private"]
            replies = await asyncio.gather(*(client.get(path) for path in paths))
    lines = [record.__dict__ for record in caplog.records if record.name == "index_sidecar.access"]
    assert sorted((line["method"], line["route"], line["status"]) for line in lines) == [
        ("GET", "/broken/{id}", 500),
        ("GET", "/missing/{id}", 404),
        ("GET", "/missing/{id}", 404),
        ("GET", "unmatched", 404),
    ]
    assert not any("private" in str(line["msg"]) + str(line["args"]) + line["route"] for line in lines)
    ids = {reply.headers["X-Request-ID"] for reply in replies}
    assert len(ids) == 4
    assert {line["request_id"] for line in lines} == ids
    assert request_id.get() is None
