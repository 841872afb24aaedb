"""How long the embedder waits for a TorchServe that is late, away, busy or back with another key."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from dataclasses import replace

import pytest

from index_sidecar.archive.errors import (
    EmbedderUnavailable,
    Overloaded,
)
from index_sidecar.embedding.torchserve import TorchServeEmbedder
from index_sidecar.settings import Settings

from ..support.fake_torchserve import FINGERPRINT, PNG, Failure, FakeTorchServe
from ..support.fake_vectors import vector_of
from ..support.sidecar import running

TIMEOUT_S = 1.0


@pytest.mark.parametrize(("failure", "delay_s"), [("hang", 0.0), ("disconnect", 0.8 * TIMEOUT_S)])
async def test_no_call_takes_longer_than_the_timeout(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, failure: Failure, delay_s: float
) -> None:
    fake.failure, fake.delay_s = failure, delay_s
    started = time.monotonic()
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(b"text", "text")
    assert time.monotonic() - started < TIMEOUT_S + 0.3


async def test_nobody_listens_and_then_a_new_torchserve_with_a_new_token(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, caplog: pytest.LogCaptureFixture
) -> None:
    await embedder.embed(b"before", "text")
    old = fake.token
    await fake.stop()
    for _ in range(3):
        with pytest.raises(EmbedderUnavailable):
            await embedder.embed(b"meanwhile", "text")
    assert not embedder.answers()
    await fake.start()
    assert fake.token != old
    assert (await embedder.embed(b"after", "text")).fingerprint == FINGERPRINT
    assert [record.message.split(":")[0] for record in caplog.records] == ["TorchServe does not answer any more"]


async def test_a_restart_between_two_calls_is_not_noticed(embedder: TorchServeEmbedder, fake: FakeTorchServe) -> None:
    await asyncio.gather(*(embedder.embed(b"%d" % i, "text") for i in range(8)))
    await fake.stop()
    await fake.start()
    await asyncio.gather(*(embedder.embed(b"%d" % i, "text") for i in range(8)))
    assert len(fake.requests) == 16


async def test_an_answer_without_end_is_given_up_at_once(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, caplog: pytest.LogCaptureFixture
) -> None:
    fake.failure = "endless"
    started = time.monotonic()
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(b"text", "text")
    assert time.monotonic() - started < 0.8 * TIMEOUT_S
    assert "more than 65536 bytes" in caplog.text


async def test_a_reset_connection_is_tried_again(embedder: TorchServeEmbedder, fake: FakeTorchServe) -> None:
    await embedder.embed(b"before", "text")
    fake.resets = 2
    assert (await embedder.embed(b"after", "text")).fingerprint == FINGERPRINT
    fake.resets = 1000
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(b"never", "text")
    assert fake.resets == 997


async def test_who_waits_for_a_connection_of_ours_hears_of_overload(settings: Settings, fake: FakeTorchServe) -> None:
    few = replace(settings, torchserve_connections=2, torchserve_timeout_s=1, queue_s=0.7)
    async with running(few) as sidecar:
        fake.delay_s = 0.3
        replies = await asyncio.gather(*(sidecar.retrieve(b"query %d" % i) for i in range(30)))
        assert {reply.error for reply in replies if reply.status != 200} == {(503, "overloaded")}
        assert 4 <= sum(reply.status == 200 for reply in replies) <= 8
        assert fake.most_at_once <= 2


async def test_the_key_file_may_come_late(embedder: TorchServeEmbedder, fake: FakeTorchServe) -> None:
    keys = fake.key_file.read_bytes()
    fake.key_file.unlink()
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(b"text", "text")
    for half_written in (b"", b"{", b"null", b"[]", b"{}", b'{"inference": "x"}', b"\xff"):
        fake.key_file.write_bytes(half_written)
        with pytest.raises(EmbedderUnavailable):
            await embedder.embed(b"text", "text")
    assert fake.requests == []
    fake.key_file.write_bytes(keys)
    assert (await embedder.embed(b"text", "text")).fingerprint == FINGERPRINT


async def test_what_exceeds_the_connections_waits_here(embedder: TorchServeEmbedder, fake: FakeTorchServe) -> None:
    fake.delay_s = 0.02
    await asyncio.gather(*(embedder.embed(b"%d" % i, "text") for i in range(40)))
    assert fake.most_at_once == 8


async def test_a_picture_that_takes_long_is_asked_for_until_it_is_done(
    embedder: TorchServeEmbedder, fake: FakeTorchServe
) -> None:
    fake.still_decoding = 8
    embedding = await embedder.embed(PNG + b"large", "image")
    assert embedding.vector.tobytes() == vector_of(PNG + b"large", "image").tobytes()
    assert len(fake.requests) == 9


async def test_a_picture_that_is_never_done_ends_with_the_timeout(
    embedder: TorchServeEmbedder, fake: FakeTorchServe
) -> None:
    fake.still_decoding = 10**9
    started = time.monotonic()
    with pytest.raises(Overloaded):
        await embedder.embed(PNG + b"large", "image")
    assert time.monotonic() - started < TIMEOUT_S + 1
    assert embedder.answers()  # it is busy, not away


async def test_a_picture_that_takes_long_is_put_aside_once(embedder: TorchServeEmbedder, fake: FakeTorchServe) -> None:
    aside: list[int] = []
    fake.still_decoding = 3
    await embedder.embed(PNG + b"large", "image", lambda: aside.append(len(fake.requests)))
    assert aside == [1]
    await embedder.embed(PNG + b"small", "image", lambda: aside.append(0))
    assert aside == [1]


async def test_few_of_the_pictures_that_take_long_are_asked_for_at_a_time(
    embedder: TorchServeEmbedder, fake: FakeTorchServe
) -> None:
    fake.still_decoding = 10**9
    await asyncio.gather(
        *(embedder.embed(PNG + b"large %d" % number, "image") for number in range(40)), return_exceptions=True
    )
    asked = sorted(Counter(request.data for request in fake.requests).values())
    assert asked[:32] == [1] * 32
    assert 1 < asked[32] <= asked[39] < 20  # and seldom: each time, the picture is sent again


async def test_a_connection_that_takes_long_is_tried_again(fake: FakeTorchServe) -> None:
    """As where the machine is so busy that nobody accepts what waits to be connected."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    embedder = TorchServeEmbedder(f"http://127.0.0.1:{listener.getsockname()[1]}", fake.key_file, 10, connections=8)
    waiting = [socket.socket() for _ in range(3)]
    try:
        async with asyncio.TaskGroup() as forwarding:
            first = forwarding.create_task(_forward_one(listener, fake))
            assert (await embedder.embed(b"before", "text")).fingerprint == FINGERPRINT
            first.cancel()
            await asyncio.wait([first])
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(listener.getsockname())
            started = time.monotonic()
            call = forwarding.create_task(embedder.embed(b"meanwhile", "text"))
            await asyncio.sleep(2.2)
            for each in waiting:
                each.close()
            more = [forwarding.create_task(_forward_one(listener, fake)) for _ in range(5)]
            assert (await call).fingerprint == FINGERPRINT
            assert time.monotonic() - started > 2.2  # so the first try was given up
            assert embedder.answers()
            for task in more:
                task.cancel()
    finally:
        listener.close()
        await embedder.close()


async def _forward_one(listener: socket.socket, fake: FakeTorchServe) -> None:
    """Accept one connection and pass on what comes, both ways."""
    listener.setblocking(False)
    accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
    near = await asyncio.open_connection(sock=accepted)
    far = await asyncio.open_connection("127.0.0.1", fake.port)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    try:
        await asyncio.gather(pass_on(near[0], far[1]), pass_on(far[0], near[1]))
    finally:
        near[1].close()
        far[1].close()
