"""How much of all bodies is held at once, and for how long."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from index_sidecar.settings import Settings

from ..support.bodies import in_chunks, send_raw
from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import AUTHORIZATION, running
from ..support.wire import request


async def test_a_body_that_does_not_arrive(settings: Settings) -> None:
    async with running(replace(settings, body_timeout_s=1)) as sidecar:
        answer = await send_raw(sidecar, "Content-Length: 10\r\nConnection: close", b"tex")
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
    # The memory alone may refuse here: on a busy machine the model's queue would, too.
    settings = replace(settings, queue_s=60, torchserve_timeout_s=60)
    path = "/add_content?id=x&type=image"
    head = request(path, None, f"Content-Length: {1 << 20}")
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
        answer = await send_raw(sidecar, "Content-Length: 10\r\nConnection: close", b"tex")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"nothing of the body arrived for 1 s" in answer


async def test_memory_is_given_back_however_a_request_ends(settings: Settings, fake: FakeTorchServe) -> None:
    settings = replace(settings, max_image_bytes=1 << 20, max_inflight_bytes=1 << 20)
    async with running(settings) as sidecar:
        full = PNG.ljust(1 << 20, b"\x00")
        for data in (b"%PDF".ljust(1 << 20), PNG + b"broken".ljust(1 << 20, b"\x00"), in_chunks(full + b"x")):
            assert (await sidecar.add("a", data, "image")).status in (400, 413, 415)
        fake.failure = "internal_500"
        assert (await sidecar.add("a", full, "image")).status == 503
        fake.failure = None
        await send_raw(sidecar, "Content-Length: 60000", b"tex", leave=True)
        await asyncio.sleep(0.05)
        assert (await sidecar.add("a", full, "image")).status == 201


@pytest.mark.slow
async def test_a_large_body_holds_nobody_up(settings: Settings, fake: FakeTorchServe) -> None:
    fake.max_request_bytes = limit = 1 << 26
    body = PNG.ljust(limit, b"\x00")
    started = time.thread_time()
    hashlib.sha256(body)
    at_once_s = time.thread_time() - started
    held = bytearray(body)
    started = time.thread_time()
    del held
    giving_back_s = time.thread_time() - started
    async with running(replace(settings, max_image_bytes=limit, torchserve_timeout_s=30)) as sidecar:
        assert (await sidecar.add("a", body, "image")).status == 201
        url = f"{sidecar.url}/add_content?id=a&type=image"
        again = urllib.request.Request(url, body, dict(AUTHORIZATION), method="POST")

        def send_again() -> dict[str, object]:  # in a thread: only what the server computes counts
            with urllib.request.urlopen(again, timeout=60) as response:
                answer: dict[str, object] = json.load(response)
                return answer

        # Besides what is ours, there is a moment in which so much memory is given back.
        most_s = at_once_s / 2 + giving_back_s
        longest_s: list[float] = []
        while not longest_s or (longest_s[-1] >= most_s and len(longest_s) < 5):
            longest_s.append(0.0)
            sending, last = asyncio.create_task(asyncio.to_thread(send_again)), time.thread_time()
            while not sending.done():
                await asyncio.sleep(0)
                now = time.thread_time()
                longest_s[-1], last = max(longest_s[-1], now - last), now
            assert (await sending)["status"] == "unchanged"
    assert longest_s[-1] < most_s, (longest_s, at_once_s, giving_back_s)
