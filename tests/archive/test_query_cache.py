"""The same question asks the model once, and never gets the vector of another model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from index_sidecar.archive.content import Embedding, digest
from index_sidecar.archive.query_cache import _ENTRY_BYTES, QueryCache
from index_sidecar.settings import Settings

from ..support.fake_torchserve import FINGERPRINT, FakeTorchServe
from ..support.fake_vectors import vector_of
from ..support.sidecar import Sidecar, running

OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"


def _embedding(text: bytes, fingerprint: str = FINGERPRINT) -> Embedding:
    return Embedding(vector_of(text, "text"), fingerprint)


def test_what_was_not_asked_for_longest_goes_first() -> None:
    cache = QueryCache(2 * _ENTRY_BYTES)
    one, two, three = (_embedding(text) for text in (b"1", b"2", b"3"))
    cache.put("text", digest(b"1"), one)
    cache.put("text", digest(b"2"), two)
    assert cache.get(FINGERPRINT, "text", digest(b"1")) is one
    cache.put("text", digest(b"3"), three)
    kept = [cache.get(FINGERPRINT, "text", digest(text)) for text in (b"1", b"2", b"3")]
    assert kept == [one, None, three]


def test_model_and_type_are_part_of_the_question() -> None:
    cache = QueryCache(10 * _ENTRY_BYTES)
    cache.put("text", digest(b"1"), _embedding(b"1"))
    assert cache.get(OTHER_MODEL, "text", digest(b"1")) is None
    assert cache.get(FINGERPRINT, "image", digest(b"1")) is None
    assert cache.get(None, "text", digest(b"1")) is None


def test_no_memory_no_cache() -> None:
    cache = QueryCache(0)
    cache.put("text", digest(b"1"), _embedding(b"1"))
    assert cache.get(FINGERPRINT, "text", digest(b"1")) is None


@pytest.fixture
def uncached(settings: Settings, runner: asyncio.Runner) -> Iterator[Sidecar]:
    context = running(replace(settings, query_cache_bytes=0))
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))


async def test_a_repeated_query_does_not_ask_the_model(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    await sidecar.add("a", b"one")
    first = (await sidecar.retrieve(b"question")).json
    asked = len(fake.requests)
    for target in ("any", "text", "each"):
        assert (await sidecar.retrieve(b"question", target=target)).status == 200
    assert (await sidecar.retrieve(b"question")).json == first
    assert len(fake.requests) == asked
    await fake.stop()
    assert (await sidecar.retrieve(b"question")).json == first  # also while there is no model
    assert (await sidecar.retrieve(b"other question")).status == 503


async def test_without_memory_every_query_asks_the_model(uncached: Sidecar, fake: FakeTorchServe) -> None:
    for _ in range(3):
        assert (await uncached.retrieve(b"question")).status == 200
    assert [request.data for request in fake.requests].count(b"question") == 3


async def test_a_query_that_was_cut_still_says_so(sidecar: Sidecar) -> None:
    long = b"word " * 100
    assert [(await sidecar.retrieve(long)).json["truncated"] for _ in range(2)] == [True, True]


async def test_a_vector_of_the_model_before_is_not_used(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    await sidecar.retrieve(b"question")  # the archive is empty: its first content decides on the model
    fake.fingerprint = OTHER_MODEL
    await sidecar.add("a", b"one")
    asked = len(fake.requests)
    assert (await sidecar.retrieve(b"question")).status == 200
    assert len(fake.requests) == asked + 1
