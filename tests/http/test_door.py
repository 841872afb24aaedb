"""Who comes when the model's queue is full and this process is late, too, is turned away before anything is read."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from index_sidecar.settings import Settings

from ..support.fake_torchserve import FakeTorchServe
from ..support.fake_worker import Speed
from ..support.sidecar import AUTHORIZATION, Reply, Sidecar, running


@contextlib.asynccontextmanager
async def _late() -> AsyncIterator[None]:
    """As long as the block runs, the event loop gets to nothing for most of the time."""

    async def hold_up() -> None:
        while True:
            time.sleep(0.08)
            await asyncio.sleep(0)

    task = asyncio.create_task(hold_up())
    await asyncio.sleep(0.5)
    try:
        yield
    finally:
        task.cancel()


@contextlib.asynccontextmanager
async def _full(sidecar: Sidecar, fake: FakeTorchServe) -> AsyncIterator[None]:
    """As long as the block runs, searches wait for the model as long as may be."""
    fake.speed = Speed(0.01, 0.05, 0.4)

    async def ask(number: int) -> None:
        for count in range(1000):
            if (await sidecar.retrieve(b"caller %d asks %d" % (number, count))).status == 503:
                await asyncio.sleep(0.3)

    # So many that some always wait: else the model's speed is not known to be all it can do, and refuses nobody.
    callers = [asyncio.create_task(ask(number)) for number in range(160)]
    others = itertools.count()
    async with asyncio.timeout(20):
        while (await sidecar.retrieve(b"one more %d" % next(others))).status == 200:  # known questions need no model
            await asyncio.sleep(0.1)
    try:
        yield
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        fake.speed = None


async def test_only_who_wants_the_model_is_turned_away_and_only_then(
    settings: Settings, fake: FakeTorchServe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "index_sidecar.access")
    async with running(replace(settings, queue_s=0.5)) as sidecar:
        wrong = {"k": "none"}  # which is read after the door

        async def asked() -> Reply:
            return await sidecar.retrieve(b"asked", **wrong)

        async with _late():
            assert (await asked()).error == (400, "invalid_k")  # the model has room
        async with _full(sidecar, fake):
            while (await asked()).error != (400, "invalid_k"):  # as soon as there is time to look
                await asyncio.sleep(0.1)
            async with _late():
                while (told := await asked()).status != 503:
                    await asyncio.sleep(0)
                assert told.error == (503, "overloaded")
                assert told.headers["X-Content-Type-Options"] == "nosniff"
                assert (await sidecar.call("GET", "/livez")).status == 200
                assert (await sidecar.call("GET", "/contents")).status == 200
        await asyncio.sleep(1.1)
        lines = [record for record in caplog.records if record.getMessage() == "refused for overload"]
        assert lines
        assert sum(vars(line)["count"] for line in lines) > 3 * len(lines)  # one for many


async def test_a_large_body_that_would_be_refused_is_not_waited_for(settings: Settings, fake: FakeTorchServe) -> None:
    head = "POST /retrieve?type=image HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in AUTHORIZATION.items())
    async with running(replace(settings, queue_s=0.5)) as sidecar, _full(sidecar, fake):
        answer = b""
        for _ in range(20):  # there may be room in the very moment
            reader, writer = await asyncio.open_connection(sidecar.client.host, sidecar.client.port)
            writer.write(f"{head}\r\n".encode())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    answer = await reader.readline()
            writer.close()
            if answer:
                break
        assert answer == b"HTTP/1.1 503 Service Unavailable\r\n"
