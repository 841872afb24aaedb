"""The embedder against a server that fails in every way TorchServe can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from index_sidecar.archive.content import ContentType
from index_sidecar.archive.errors import (
    ContentError,
    EmbedderUnavailable,
    InvalidInput,
    Overloaded,
    TooLarge,
    Unsupported,
)
from index_sidecar.archive.request_id import request_id
from index_sidecar.embedding.torchserve import TorchServeEmbedder
from index_sidecar.settings import Settings

from ..support.fake_torchserve import FINGERPRINT, PNG, SECRET, Failure, FakeTorchServe, Request, vector_of
from ..support.sidecar import running

TIMEOUT_S = 1.0


@pytest.fixture
def embedder(runner: asyncio.Runner, fake: FakeTorchServe) -> Iterator[TorchServeEmbedder]:
    async def make() -> TorchServeEmbedder:
        return TorchServeEmbedder(fake.url + "/", fake.key_file, TIMEOUT_S, connections=8)

    embedder = runner.run(make())
    yield embedder
    runner.run(embedder.close())


@pytest.mark.parametrize(
    ("data", "content_type", "truncated"),
    [
        (b"a photo of a cat", "text", False),
        ("漢字 🙂".encode(), "text", False),
        (b"word " * 78, "text", True),
        (PNG + b"pixels", "image", False),
    ],
)
async def test_a_content_becomes_its_vector(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, data: bytes, content_type: ContentType, truncated: bool
) -> None:
    request_id.set("request-1")
    embedding = await embedder.embed(data, content_type)
    assert embedding.vector.tobytes() == vector_of(data, content_type).tobytes()
    assert (embedding.fingerprint, embedding.truncated) == (FINGERPRINT, truncated)
    assert fake.requests == [Request(content_type, data, "request-1")]
    assert embedder.answers() is True


@pytest.mark.parametrize(
    ("data", "content_type", "kind", "code"),
    [
        (b" \n", "text", InvalidInput, "empty_text"),
        (b"\xff\xfe", "text", InvalidInput, "invalid_utf8"),
        (b"", "image", InvalidInput, "empty_image"),
        (b"%PDF-1.7", "image", Unsupported, "unsupported_image"),
        (PNG + b"broken", "image", InvalidInput, "unreadable_image"),
        (PNG + b"huge", "image", TooLarge, "too_many_pixels"),
    ],
)
async def test_a_refusal_of_the_handler_reaches_the_caller_as_it_is(
    embedder: TorchServeEmbedder, data: bytes, content_type: ContentType, kind: type[ContentError], code: str
) -> None:
    with pytest.raises(ContentError) as caught:
        await embedder.embed(data, content_type)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert str(caught.value).startswith(("the ", "not an image"))
    assert embedder.answers() is True


@pytest.mark.parametrize(
    ("failure", "kind", "answers"),
    [
        ("queue_full", Overloaded, True),
        ("internal_500", EmbedderUnavailable, False),
        ("internal_503", EmbedderUnavailable, False),
        ("odd_400", EmbedderUnavailable, False),
        ("disconnect", EmbedderUnavailable, False),
        ("hang", EmbedderUnavailable, False),
        ("short", EmbedderUnavailable, False),
        ("not_unit", EmbedderUnavailable, False),
        ("nan", EmbedderUnavailable, False),
        ("no_model", EmbedderUnavailable, False),
        ("endless", EmbedderUnavailable, False),
    ],
)
async def test_a_failure_is_told_in_our_own_words_and_ends_with_its_cause(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, failure: Failure, kind: type[ContentError], answers: bool
) -> None:
    fake.failure = failure
    with pytest.raises(ContentError) as caught:
        await embedder.embed(b"text", "text")
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value)
    assert embedder.answers() is answers
    fake.failure = None
    assert (await embedder.embed(b"text", "text")).fingerprint == FINGERPRINT


async def test_a_content_too_large_for_torchserve(embedder: TorchServeEmbedder, fake: FakeTorchServe) -> None:
    fake.max_request_bytes = 10
    with pytest.raises(TooLarge) as caught:
        await embedder.embed(b"x" * 11, "text")
    assert SECRET not in str(caught.value)


async def test_what_torchserve_says_goes_to_the_log(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, caplog: pytest.LogCaptureFixture
) -> None:
    fake.failure = "internal_500"
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(b"text", "text")
    assert SECRET in caplog.text
    assert fake.token not in caplog.text


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


@pytest.mark.parametrize("fingerprint", ["", "mod\xe8le", "a\tb", "x" * 257])
async def test_what_is_no_line_of_ascii_is_no_fingerprint(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, fingerprint: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fingerprint = fingerprint
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(b"text", "text")
    assert all(record.getMessage().isascii() for record in caplog.records)


@pytest.mark.parametrize("fingerprint", ["x", ":", 'a"b', "one:two"])
async def test_any_fingerprint_is_told_in_health(settings: Settings, fake: FakeTorchServe, fingerprint: str) -> None:
    fake.fingerprint = fingerprint
    async with running(settings) as sidecar:
        assert (await sidecar.add("a", b"one")).status == 201
        health = await sidecar.call("GET", "/health")
        assert (health.status, health.json["model"]) == (200, fingerprint)
        assert health.json["weights"] == (fingerprint.split(":")[1] if ":" in fingerprint else None)


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


async def test_the_key_file_of_another_torchserve_is_named_in_the_log_but_not_what_is_in_it(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, caplog: pytest.LogCaptureFixture
) -> None:
    fake.key_file.write_text('{"inference": {"key": "another-token"}}')
    with pytest.raises(EmbedderUnavailable) as caught:
        await embedder.embed(b"text", "text")
    assert "oken" not in str(caught.value)
    assert str(fake.key_file) in caplog.text
    assert "another-token" not in caplog.text


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
