"""What is no call of ours, or no HTTP at all, is answered like everything else; and what waits for nothing ends."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
from dataclasses import replace

import pytest

from index_sidecar.app import create_app
from index_sidecar.http.server import serve
from index_sidecar.settings import Settings

from ..support.fake_torchserve import FakeTorchServe
from ..support.sidecar import Sidecar, free_port, running
from ..support.wire import request, send

ADD = "/add_content?type=text&id="
NO_HOST = f"POST {ADD}a HTTP/1.1\r\nContent-Length: 5\r\n\r\na cat".encode()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (request(ADD + "café", b"a cat"), (400, "invalid_request")),  # not percent-encoded
        (request(ADD + "a b", b"a cat"), (400, "invalid_request")),
        (request(ADD + "a&x=" + "x" * 9000, b"a cat"), (431, "head_too_large")),
        (request(ADD + "a", b"a cat", "Cookie: " + "x" * 9000), (431, "head_too_large")),
        (request(ADD + "a", b"a cat", "no colon"), (400, "invalid_request")),
        (request(ADD + "a", b"5\r\na cat\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), (400, "invalid_request")),
        (request(ADD + "a", None, "Content-Length: 5", "Content-Length: 6"), (400, "invalid_request")),
        (request(ADD + "a", b"a cat", version="9.7"), (400, "invalid_request")),
        (bytes.fromhex("1603010200010001fc0303") + bytes(100), (400, "invalid_request")),  # TLS
        (NO_HOST, (400, "invalid_request")),
        (b"nonsense\r\n\r\n", (400, "invalid_request")),
        (request(ADD + "a", b"a cat", "Expect: 200-maybe"), (417, "unknown_expectation")),
        (request("/nowhere", b"a cat", "Expect: 200-maybe"), (417, "unknown_expectation")),
        (request("/add_content/?type=text&id=a", b"a cat"), (404, "not_found")),
        (request(ADD + "a", b"a cat", method="PUT"), (405, "method_not_allowed")),
        (request("/retrieve", None, method="OPTIONS"), (405, "method_not_allowed")),
        (request("/retrieve?type=text", b"a cat", method="GET"), (405, "method_not_allowed")),
    ],
)
async def test_an_error_is_json_whoever_found_it(
    sidecar: Sidecar, data: bytes, error: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert (await send(sidecar, data)).error == error
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "caf" not in caplog.text
    lines = [record.__dict__ for record in caplog.records if record.name == "index_sidecar.access"]
    assert [(line["route"], line["status"]) for line in lines[-1:]] == [("unmatched", error[0])]
    assert (await sidecar.call("GET", "/contents")).json["contents"] == []


@pytest.mark.parametrize(
    "data",
    [
        request(ADD + "a", b"a cat", version="1.0"),
        request("http://localhost" + ADD + "a", b"a cat"),
        request(ADD + "a", None, "Transfer-Encoding: chunked") + b"5\r\na cat\r\n0\r\n\r\n",
        request(ADD + "a", b"a cat", "Content-Encoding: identity"),
        request(ADD + "a", b"a cat", "Content-Type: application/x-www-form-urlencoded"),
    ],
)
async def test_old_and_odd_but_sound_requests_are_taken(sidecar: Sidecar, fake: FakeTorchServe, data: bytes) -> None:
    assert (await send(sidecar, data)).status == 201
    assert fake.requests[-1].data == b"a cat"


async def test_a_body_is_asked_for_only_once_it_is_wanted(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    head = request(ADD + "a", None, "Content-Length: 5", "Expect: 100-continue")
    assert (await send(sidecar, head, b"a cat", pause_s=0.05)).statuses == [100, 201]
    assert fake.requests[-1].data == b"a cat"
    for path, length, error in (
        (ADD + "b", 99_000_000, (413, "too_large")),
        (ADD + "b&nonsense=1", 5, (400, "unknown_parameter")),
        ("/add_content?type=text", 5, (400, "invalid_id")),
    ):
        answer = await send(sidecar, request(path, None, f"Content-Length: {length}", "Expect: 100-continue"))
        assert answer.statuses == [error[0]]
        assert answer.error == error


async def test_head_is_answered_where_get_is(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"a cat")
    for path in ("/contents/a/preview", "/contents/preview?id=a", "/contents/a", "/health"):
        answer = await send(sidecar, request(path, None, method="HEAD"))
        assert answer.status == 200
        assert int(answer.headers["content-length"]) > 0


async def _closed_after(sidecar: Sidecar, data: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.client.server.port)
    writer.write(data)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_connection_that_waits_for_nothing_ends(settings: Settings) -> None:
    async with running(replace(settings, idle_timeout_s=1)) as sidecar:
        never, amid_its_head, after_an_answer = await asyncio.gather(
            _closed_after(sidecar, b""),
            _closed_after(sidecar, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "),
            _closed_after(sidecar, request("/ready", None, method="GET")),
        )
    assert (never, amid_its_head) == (b"", b"")
    assert after_an_answer.startswith(b"HTTP/1.1 200 ")


async def test_at_the_end_what_the_system_has_taken_for_us_is_answered(settings: Settings) -> None:
    port, ask, alive = free_port(), request("/livez", None, method="GET"), (200, b'{"status": "alive"}')
    serving = asyncio.create_task(serve(create_app(settings), "127.0.0.1", port, idle_s=75, end_s=60))
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))

        def answer(connection: socket.socket) -> tuple[int, bytes]:
            with http.client.HTTPResponse(connection) as response:
                response.begin()
                return response.status, response.read()

        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    kept = [connect() for _ in range(30)]
                    break
                await asyncio.sleep(0.01)
        for connection in kept:
            connection.sendall(ask)
            assert await asyncio.to_thread(answer, connection) == alive
        # From here to the end's begin the server has no turn: it has heard of none of these requests.
        new = [connect() for _ in range(30)]
        for connection in (*kept, *new):
            connection.sendall(ask)
        serving.cancel()  # as SIGTERM does
        for connection in (*kept, *new):
            assert await asyncio.to_thread(answer, connection) == alive
        await serving
