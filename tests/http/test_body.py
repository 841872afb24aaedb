"""What a request may carry: how much, in which wrapping, for how long, and how much of it at once."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import logging
import time
import urllib.request
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from index_sidecar.settings import Settings

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import AUTHORIZATION, Reply, Sidecar, running
from ..support.wire import request, send

TEXT_LIMIT, IMAGE_LIMIT = 64 * 1024, 32 * 1024 * 1024
BOUNDARY = "frontier"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


async def _in_chunks(data: bytes) -> AsyncIterator[bytes]:
    """A body without Content-Length."""
    for start in range(0, len(data), 1 << 18):
        yield data[start : start + (1 << 18)]


def _form(data: bytes, *headers: str) -> bytes:
    head = "\r\n".join((f"--{BOUNDARY}", 'Content-Disposition: form-data; name="file"; filename="a"', *headers))
    return head.encode() + b"\r\n\r\n" + data + f"\r\n--{BOUNDARY}--\r\n".encode()


async def _post_form(sidecar: Sidecar, body: object, content_type: str = "text") -> Reply:
    return await sidecar.call("POST", f"/add_content?id=a&type={content_type}", body, headers=FORM)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("content_type", "limit"), [("text", TEXT_LIMIT), ("image", IMAGE_LIMIT)])
async def test_the_limit_of_each_type(
    sidecar: Sidecar, fake: FakeTorchServe, content_type: str, limit: int, chunked: bool
) -> None:
    fits = PNG.ljust(limit, b"\x00") if content_type == "image" else b"x" * limit
    too_large = fits + b"x"
    reply = await sidecar.add("a", _in_chunks(too_large) if chunked else too_large, content_type)
    assert reply.error == (413, "too_large")
    assert len(fake.requests) == 1  # the question for the model at the start
    reply = await sidecar.add("a", _in_chunks(fits) if chunked else fits, content_type)
    assert reply.status == 201
    assert fits in [request.data for request in fake.requests]


async def test_the_limits_hold_for_queries_too(sidecar: Sidecar) -> None:
    assert (await sidecar.retrieve(b"x" * (TEXT_LIMIT + 1))).error == (413, "too_large")
    assert (await sidecar.retrieve(b"x" * TEXT_LIMIT)).status == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [100, 2 * 1024 * 1024 + 1])  # more than what aiohttp takes by itself
async def test_the_first_field_of_a_form(sidecar: Sidecar, fake: FakeTorchServe, size: int, chunked: bool) -> None:
    data = PNG + b"\r\n--" + bytes(range(256)) * (size // 256 + 1)
    body = _form(data, "Content-Type: image/png")
    assert (await _post_form(sidecar, _in_chunks(body) if chunked else body, "image")).status == 201
    assert fake.requests[-1].data == data


async def test_a_form_as_aiohttp_sends_it(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    form = aiohttp.FormData()
    form.add_field("anything", "Grüße".encode(), filename="a.txt")
    form.add_field("ignored", "second field")
    assert (await sidecar.add("a", form)).status == 201
    assert fake.requests[-1].data == "Grüße".encode()


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_limits_hold_for_what_a_form_wraps(sidecar: Sidecar, chunked: bool) -> None:
    fits, too_large = _form(b"x" * TEXT_LIMIT), _form(b"x" * (TEXT_LIMIT + 1))
    assert (await _post_form(sidecar, _in_chunks(too_large) if chunked else too_large)).error == (413, "too_large")
    assert (await _post_form(sidecar, _in_chunks(fits) if chunked else fits)).status == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        f"--{BOUNDARY}--\r\n".encode(),
        b"no form at all",
        _form(b"text")[:-17],  # ends within the field
        _form(b"text" * 10_000)[:-20_000],
        _form(b"text", "a header without a colon"),
        _form(b"text", "X-Long: " + "x" * 10_000),
        _form(b"text", *(f"X-Many-{i}: x" for i in range(200))),
        _form(b"text", f"Content-Type: multipart/mixed; boundary={BOUNDARY}"),
        _form(b"text", "Content-Type: multipart/mixed"),
    ],
)
async def test_a_broken_form(sidecar: Sidecar, body: bytes) -> None:
    assert (await _post_form(sidecar, body)).error == (400, "invalid_body")
    assert (await _post_form(sidecar, _in_chunks(body))).error == (400, "invalid_body")


async def test_a_form_without_boundary(sidecar: Sidecar) -> None:
    headers = {"Content-Type": "multipart/form-data"}
    reply = await sidecar.call("POST", "/add_content?id=a&type=text", b"text", headers=headers)
    assert reply.error == (400, "invalid_body")


async def test_a_compressed_body_is_taken_as_what_it_holds(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    path, headers = "/add_content?id=a&type=text", {"Content-Encoding": "gzip"}
    assert (await sidecar.call("POST", path, gzip.compress(b"x" * TEXT_LIMIT), headers=headers)).status == 201
    assert fake.requests[-1].data == b"x" * TEXT_LIMIT
    bomb = gzip.compress(b"x" * (TEXT_LIMIT + 1))
    assert (await sidecar.call("POST", path, bomb, headers=headers)).error == (413, "too_large")


WORDS = b"a cat sits on a roof " * 50
DEFLATED = zlib.compress(WORDS)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(WORDS, mtime=0)),
        ("x-gzip", gzip.compress(WORDS, mtime=0)),
        ("GZIP", gzip.compress(WORDS[:7], mtime=0) + gzip.compress(WORDS[7:], mtime=0)),  # files in a row are one
        ("deflate", DEFLATED),
        ("deflate", DEFLATED[2:-4]),  # without zlib's frame
        ("identity", WORDS),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_what_is_compressed_in_a_way_we_know(
    sidecar: Sidecar, fake: FakeTorchServe, encoding: str, body: bytes, size: int
) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    headers = {"Content-Encoding": encoding}
    reply = await sidecar.call("POST", "/add_content?id=a&type=text", in_pieces(), headers=headers)
    assert reply.status == 201
    assert fake.requests[-1].data == WORDS


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"no gzip at all"),
        ("gzip", b""),
        ("gzip", gzip.compress(WORDS, mtime=0)[:-12]),
        ("gzip", gzip.compress(WORDS, mtime=0)[:-1]),  # a part of the checksum
        ("gzip", gzip.compress(WORDS, mtime=0)[:-8] + bytes(8)),
        ("gzip", gzip.compress(WORDS, mtime=0) + b"and more"),
        ("deflate", DEFLATED[:-1]),
        ("deflate", DEFLATED[2:-8]),
        ("deflate", DEFLATED + b"and more"),
    ],
)
async def test_a_broken_compressed_body(sidecar: Sidecar, encoding: str, body: bytes) -> None:
    data = request("/add_content?id=a&type=text", body, f"Content-Encoding: {encoding}")
    assert (await send(sidecar, data)).error == (400, "invalid_body")
    assert (await sidecar.call("GET", "/contents/a")).status == 404


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "UTF-8", "aws-chunked", "gzip, gzip", "gzip, identity"])
async def test_what_is_compressed_in_a_way_we_do_not_know(sidecar: Sidecar, encoding: str) -> None:
    data = request("/add_content?id=a&type=text", b"a cat", f"Content-Encoding: {encoding}")
    assert (await send(sidecar, data)).error == (415, "unsupported_encoding")


async def test_a_form_is_not_compressed_as_a_whole(sidecar: Sidecar) -> None:
    headers = {**FORM, "Content-Encoding": "gzip"}
    reply = await sidecar.call("POST", "/add_content?id=a&type=text", gzip.compress(_form(b"text")), headers=headers)
    assert reply.error == (415, "unsupported_encoding")


async def test_a_body_in_which_there_is_hardly_anything(settings: Settings) -> None:
    async with running(replace(settings, max_image_bytes=4 << 20)) as sidecar:
        body, headers = gzip.compress(PNG.ljust(3 << 20, b"\x00")), {"Content-Encoding": "gzip"}
        reply = await sidecar.call("POST", "/add_content?id=a&type=image", body, headers=headers)
        assert reply.error == (413, "too_large")
        assert "uncompressed" in reply.json["error"]["message"]


async def test_json_is_no_content(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    body, headers = b'{"text": "a cat"}', {"Content-Type": "application/json; charset=utf-8"}
    for path in ("/add_content?id=a&type=text", "/retrieve?type=text"):
        reply = await sidecar.call("POST", path, body, headers=headers)
        assert reply.error == (415, "not_a_content")
        assert "send the content itself" in reply.json["error"]["message"]
    path = "/mv_retrieval/v0.1/add_content?id=a&type=text"  # takes what it always took
    assert (await sidecar.call("POST", path, body, headers=headers)).status == 201
    headers["Content-Type"] = "application/x-www-form-urlencoded"  # what curl says of anything
    assert (await sidecar.call("POST", "/add_content?id=b&type=text", b"text=a+cat", headers=headers)).status == 201
    assert fake.requests[-1].data == b"text=a+cat"


async def _raw(sidecar: Sidecar, head: str, body: bytes, leave: bool = False) -> bytes:
    """What a client that sends these bytes gets for an answer; none when it leaves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.client.server.port)
    writer.write(request("/add_content?id=a&type=text", None, *head.split("\r\n")) + body)
    await writer.drain()
    await asyncio.sleep(0.05)
    answer = b"" if leave else await reader.read(10_000)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("form", [False, True])
async def test_a_client_that_leaves_in_the_middle_is_no_error_of_ours(
    sidecar: Sidecar, caplog: pytest.LogCaptureFixture, form: bool
) -> None:
    body = _form(b"text")[:-25] if form else b"tex"
    head = f"Content-Length: {len(body) + 10}" + (f"\r\nContent-Type: {FORM['Content-Type']}" if form else "")
    await _raw(sidecar, head, body, leave=True)
    await asyncio.sleep(0.05)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert (await sidecar.call("GET", "/contents/a")).status == 404


async def test_a_body_that_does_not_arrive(settings: Settings) -> None:
    async with running(replace(settings, body_timeout_s=1)) as sidecar:
        answer = await _raw(sidecar, "Content-Length: 10\r\nConnection: close", b"tex")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code": "body_timeout"' in answer


async def test_the_memory_of_all_bodies_is_bounded(settings: Settings) -> None:
    settings = replace(settings, max_image_bytes=700_000, max_inflight_bytes=1 << 20)
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield PNG.ljust(680_000, b"\x00")
        await go_on.wait()
        yield b"the rest"

    async with running(settings) as sidecar:
        first = asyncio.create_task(sidecar.add("a", slowly(), "image"))
        await asyncio.sleep(0.2)
        second = await sidecar.add("b", PNG.ljust(400_000, b"\x00"), "image")
        assert second.error == (503, "overloaded")
        assert (await sidecar.add("c", b"a small one has room")).status == 201
        go_on.set()
        assert (await first).status == 201
        assert (await sidecar.add("b", PNG.ljust(700_000, b"\x00"), "image")).status == 201


async def test_the_memory_counts_what_a_compressed_body_becomes(settings: Settings, fake: FakeTorchServe) -> None:
    settings = replace(settings, max_image_bytes=700_000, max_inflight_bytes=1 << 20)
    path, headers = "/add_content?id={}&type=image", {"Content-Encoding": "gzip"}
    fake.delay_s = 0.3
    async with running(settings) as sidecar:
        body = gzip.compress(PNG.ljust(700_000, b"\x00"))
        first = asyncio.create_task(sidecar.call("POST", path.format("a"), body, headers=headers))
        while len(fake.requests) < 2:
            await asyncio.sleep(0.01)
        second = await sidecar.call("POST", path.format("b"), body, headers=headers)
        assert second.error == (503, "overloaded")
        assert (await first).status == 201


async def test_memory_is_charged_as_it_arrives(settings: Settings) -> None:
    settings = replace(settings, max_image_bytes=1 << 20, max_inflight_bytes=1 << 20)
    path = "/add_content?id=x&type=image"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 20}\r\n\r\n".encode()
    async with running(settings) as sidecar:
        silent = [await asyncio.open_connection("127.0.0.1", sidecar.client.server.port) for _ in range(16)]
        for _, writer in silent:
            writer.write(head + PNG)  # ... and nothing more

        async def in_two_parts(number: int) -> AsyncIterator[bytes]:
            yield PNG
            await asyncio.sleep(0.1)
            yield b"%d" % number * 16_000

        adds = (sidecar.add(f"id {number}", in_two_parts(number), "image") for number in range(20))
        assert {reply.status for reply in await asyncio.gather(*adds)} == {201}
        for _, writer in silent:
            writer.close()


async def test_who_sends_slowly_makes_room(settings: Settings) -> None:
    settings = replace(settings, max_image_bytes=1 << 20, max_inflight_bytes=1 << 20)
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield PNG.ljust(70_000, b"\x00")
        await go_on.wait()

    async with running(settings) as sidecar:
        slow = asyncio.create_task(sidecar.add("a", slowly(), "image"))
        await asyncio.sleep(0.1)
        full = PNG.ljust(1 << 20, b"\x00")
        assert (await sidecar.add("b", full, "image")).error == (503, "overloaded")  # a second is everybody's
        await asyncio.sleep(1.2)
        assert (await sidecar.add("b", full, "image")).status == 201
        assert (await slow).error == (503, "overloaded")
        go_on.set()
        assert (await sidecar.add("c", full + b"", "image")).status == 201


async def test_a_body_of_which_nothing_arrives_any_more(settings: Settings) -> None:
    async with running(replace(settings, body_idle_s=1)) as sidecar:
        answer = await _raw(sidecar, "Content-Length: 10\r\nConnection: close", b"tex")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"nothing of the body arrived for 1 s" in answer


async def test_memory_is_given_back_however_a_request_ends(settings: Settings, fake: FakeTorchServe) -> None:
    settings = replace(settings, max_image_bytes=1 << 20, max_inflight_bytes=1 << 20)
    async with running(settings) as sidecar:
        full = PNG.ljust(1 << 20, b"\x00")
        for data in (b"%PDF".ljust(1 << 20), PNG + b"broken".ljust(1 << 20, b"\x00"), _in_chunks(full + b"x")):
            assert (await sidecar.add("a", data, "image")).status in (400, 413, 415)
        fake.failure = "internal_500"
        assert (await sidecar.add("a", full, "image")).status == 503
        fake.failure = None
        await _raw(sidecar, "Content-Length: 60000", b"tex", leave=True)
        await asyncio.sleep(0.05)
        assert (await sidecar.add("a", full, "image")).status == 201


async def test_a_large_body_holds_nobody_up(settings: Settings, fake: FakeTorchServe) -> None:
    fake.max_request_bytes = limit = 1 << 26
    body = PNG.ljust(limit, b"\x00")
    started = time.thread_time()
    hashlib.sha256(body)
    at_once_s = time.thread_time() - started
    async with running(replace(settings, max_image_bytes=limit)) as sidecar:
        assert (await sidecar.add("a", body, "image")).status == 201
        url = f"{sidecar.url}/add_content?id=a&type=image"
        again = urllib.request.Request(url, body, dict(AUTHORIZATION), method="POST")

        def send_again() -> dict[str, object]:  # in a thread: only what the server computes counts
            with urllib.request.urlopen(again, timeout=60) as response:
                answer: dict[str, object] = json.load(response)
                return answer

        # Hashed at once, every try would take that and what giving back so much memory takes, half as long again.
        longest_s: list[float] = []
        while not longest_s or (longest_s[-1] >= at_once_s and len(longest_s) < 5):
            longest_s.append(0.0)
            sending, last = asyncio.create_task(asyncio.to_thread(send_again)), time.thread_time()
            while not sending.done():
                await asyncio.sleep(0)
                now = time.thread_time()
                longest_s[-1], last = max(longest_s[-1], now - last), now
            assert (await sending)["status"] == "unchanged"
    assert longest_s[-1] < at_once_s, longest_s
