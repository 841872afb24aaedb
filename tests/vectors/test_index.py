"""What only FaissIndex promises: erased memory, the approximate index made in the background, and when it is made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_sidecar.archive.content import Content, ContentType, Embedding, Hit, Vector, digest
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.exact import DType, ExactVectors
from index_sidecar.vectors.index import FaissIndex

from ..archive.test_index_contract import best, query_of
from ..support.contents import content_of
from ..support.fake_torchserve import FINGERPRINT

NEVER = 10**9


def neighbourhoods(rows: int, seed: int, groups: int = 50) -> Vector:
    """(rows, 512) unit vectors that gather around a few centres, the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((groups, 512))
    numbers = np.random.default_rng(seed)
    vectors = centres[numbers.integers(groups, size=rows)] + 0.7 * numbers.standard_normal((rows, 512))
    unit: Vector = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def contents_of(rows: int, seed: int = 1, content_type: ContentType = "image") -> list[Content]:
    """Contents of such vectors, ids unlike those of another seed."""
    names = [f"{seed} {number:05}" for number in range(rows)]
    embeddings = [Embedding(vector, FINGERPRINT) for vector in neighbourhoods(rows, seed)]
    owners = ("ann", None, "bob", "hog")
    return [
        Content(name, content_type, owners[number % 4], digest(name.encode()), 0.0, embedding)
        for number, (name, embedding) in enumerate(zip(names, embeddings, strict=True))
    ]


@pytest.fixture
def store(runner: asyncio.Runner, tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    yield store
    runner.run(store.close())


async def opened(store: SqliteStore, exact_rows: int, recall: float = 0.0, dtype: DType = "float32") -> FaissIndex:
    """An index loaded from the store, in the store's folder."""
    index = FaissIndex(store.folder, dtype, exact_rows, recall, NEVER)
    await index.load(store)
    return index


async def built(index: FaissIndex, rows: int | None = None) -> None:
    """Until the images' index is approximate, and was built of `rows` rows."""
    async with asyncio.timeout(20):
        while (
            (state := await index.state("image")).kind == "exact"
            or state.build is not None
            or not (
                rows is None or index._shelves["image"].vectors.built_rows == rows  # type: ignore[union-attr]
            )
        ):
            await asyncio.sleep(0.005)


async def found(index: FaissIndex, contents: list[Content], query: Vector) -> float:
    """Recall@10 of one query."""
    hits = await index.search(query, 10, "image", None)
    true = best(contents, query, 10, "image", None)
    return len({hit.id for hit in hits} & {hit.id for hit in true}) / len(true)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
async def test_it_grows_and_shrinks_far(store: SqliteStore, dtype: DType) -> None:
    index = await opened(store, NEVER, dtype=dtype)
    contents = [content_of(f"id {i:04}", b"%d" % i, user=f"user {i % 7}") for i in range(2500)]
    await index.upsert(contents[:1])
    await index.upsert(contents[1:])

    async def same(left: list[Content], user: str | None) -> None:
        hits = await index.search(query_of("q"), 20, "text", user)
        expected = best(left, query_of("q"), 20, "text", user)
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=2e-4)

    await same(contents, "user 3")
    for content in contents[:2490]:
        await index.delete(content.id)
    await same(contents[2490:], None)
    for content in contents:
        await index.delete(content.id)
    assert await index.search(query_of("q"), 20, "text", None) == []
    await index.close()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
async def test_many_queries_at_once_score_like_one(store: SqliteStore, dtype: DType) -> None:
    index = await opened(store, NEVER, dtype=dtype)
    await index.upsert(contents_of(9000))  # more than a block of float16 rows
    queries = neighbourhoods(40, 5)
    alone = [await index.search(query, 10, "image", None) for query in queries]
    together = await asyncio.gather(*(index.search(query, 10, "image", None) for query in queries))
    for one, other in zip(alone, together, strict=True):
        assert [hit.id for hit in one] == [hit.id for hit in other]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-6)
    await index.close()


@pytest.mark.parametrize("exact_rows", [NEVER, 100])
async def test_what_was_deleted_is_gone_from_memory_too(store: SqliteStore, exact_rows: int) -> None:
    index = await opened(store, exact_rows)
    contents = contents_of(300)
    await index.upsert(contents)
    if exact_rows < NEVER:
        await built(index)
    vectors = index._shelves["image"].vectors
    memory = [vectors.codes()]  # Faiss keeps the room of deleted rows
    if vectors.kind == "approximate":
        memory += [_codes(vectors, number) for number in range(vectors.lists)]
    for content in contents[:50]:
        await index.delete(content.id)
    assert sum(np.count_nonzero(part.any(axis=1)) for part in memory) == 250 * (1 if exact_rows == NEVER else 2)
    await index.close()


def _codes(vectors: object, number: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    import faiss

    lists = vectors._inverted  # type: ignore[attr-defined]
    size = lists.list_size(number)
    if not size:
        return np.zeros((0, 512), np.uint8)
    return faiss.rev_swig_ptr(lists.get_codes(number), size * 512).reshape(size, 512)  # type: ignore[no-any-return]


async def test_past_its_size_a_type_becomes_approximate_and_tells_what_it_reaches(store: SqliteStore) -> None:
    index = await opened(store, 1500, recall=0.9)
    contents = contents_of(1500)
    await index.upsert(contents)
    assert (await index.state("image")).kind == "exact"
    texts, more = contents_of(200, 2, "text"), contents_of(500, 3)
    await index.upsert([*texts, *more])
    await built(index)
    contents += more
    state = await index.state("image")
    assert (state.kind, state.size, state.snapshot, state.build) == ("approximate", 2000, "none", None)
    assert state.recall is not None
    assert sorted(state.recall) == ["image->image", "text->image"]
    assert all(recall >= 0.9 for recall in state.recall.values())
    assert state.memory_bytes is not None
    assert 2000 * (1024 + 512) < state.memory_bytes < 2000 * 2048
    assert np.mean([await found(index, contents, query) for query in neighbourhoods(100, 9)]) >= 0.9
    assert (await index.state("text")).kind == "exact"
    await index.close()


async def test_scores_of_an_approximate_index_are_those_of_float16(store: SqliteStore) -> None:
    index = await opened(store, 100)
    contents = contents_of(500)
    await index.upsert(contents)
    await built(index)
    halves = np.stack([each.embedding.vector for each in contents]).astype(np.float16).astype(np.float32)
    for query in neighbourhoods(20, 9):
        for hit in await index.search(query, 10, "image", None):
            row = int(hit.id.split()[1])
            assert hit.score == pytest.approx(min(1.0, float(halves[row] @ query)), abs=1e-5)
    await index.close()


async def test_nothing_that_happens_during_a_build_is_lost(store: SqliteStore) -> None:
    index = await opened(store, 2000)
    contents = {content.id: content for content in contents_of(4000)}
    new = contents_of(1500, 2)
    replaced = [replace(content, id=f"1 {number:05}") for number, content in enumerate(contents_of(700, 3))]
    await index.upsert(list(contents.values()))
    changes = 0
    kinds = []
    while (await index.state("image")).kind == "exact" or changes < 700:
        if changes < 700:
            kinds.append((await index.state("image")).kind)
            gone = f"1 {3999 - changes:05}"
            await asyncio.gather(
                index.upsert(new[2 * changes : 2 * changes + 2]), index.upsert([replaced[changes]]), index.delete(gone)
            )
            contents |= {each.id: each for each in (*new[2 * changes : 2 * changes + 2], replaced[changes])}
            contents.pop(gone)
            changes += 1
        await asyncio.sleep(0.001)
    await built(index)
    assert kinds.count("exact") > 50, "the build was over before the changes: this has shown nothing"
    assert await index.count("image") == len(contents)
    everything = await index.search(neighbourhoods(1, 9)[0], 10**4, "image", None)
    assert {hit.id for hit in everything} == set(contents)
    query = neighbourhoods(1, 9)[0]
    true = {hit.id: hit.score for hit in best(contents.values(), query, 10**4, "image", None)}
    assert [hit.score for hit in everything] == pytest.approx([true[hit.id] for hit in everything], abs=2e-4)
    for content in (*replaced, *new[:1400]):
        (hit,) = await index.search(content.embedding.vector, 1, "image", None)
        assert replace(hit, score=1.0) == Hit(content.id, "image", content.user, 1.0)
        assert hit.score == pytest.approx(1.0, abs=2e-4)
    await index.close()


async def test_what_cannot_reach_the_recall_stays_exact_until_it_has_doubled(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    index = await opened(store, 100, recall=1.1)

    async def refusals(number: int) -> None:
        async with asyncio.timeout(20):
            while caplog.text.count("stays exact") < number:
                await asyncio.sleep(0.005)

    await index.upsert(contents_of(300))
    await refusals(1)
    await index.upsert(contents_of(200, 2))
    await asyncio.sleep(0.1)
    state = await index.state("image")
    assert (state.kind, state.nprobe, state.build) == ("exact", None, None)
    assert state.recall is not None
    assert 0 < state.recall["image->image"] <= 1
    assert caplog.text.count("stays exact") == 1
    await index.upsert(contents_of(200, 3))
    await refusals(2)
    await index.close()


async def test_it_is_built_anew_when_it_has_doubled_or_lost_a_fifth(store: SqliteStore) -> None:
    index = await opened(store, 100)
    contents = contents_of(400)
    await index.upsert(contents)
    await built(index, 400)
    await index.upsert(contents_of(400, 2))
    await built(index, 800)
    for content in contents[:159]:
        await index.delete(content.id)
    await asyncio.sleep(0.05)
    assert index._builder.progress("image") is None
    await index.delete(contents[159].id)
    await built(index, 640)
    await index.close()


async def test_the_event_loop_goes_on_while_an_index_is_filled_built_and_searched(store: SqliteStore) -> None:
    # What else the machine does can hold the loop up, too, but not every time: the best of a few tries is ours.
    contents = contents_of(12_000)
    stalls_s: list[float] = []
    while not stalls_s or (min(stalls_s) >= 0.05 and len(stalls_s) < 6):
        stalls_s.append(await _longest_stall_s(store, contents))
    assert min(stalls_s) < 0.05, stalls_s


async def _longest_stall_s(store: SqliteStore, contents: list[Content]) -> float:
    """Of the event loop, while an index is filled, built and searched."""
    index = await opened(store, 5000)
    worst_s = 0.0

    async def watch() -> None:
        nonlocal worst_s
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            worst_s = max(worst_s, time.perf_counter() - before - 0.001)

    watcher = asyncio.create_task(watch())
    for first in range(0, 12_000, 1000):
        await index.upsert(contents[first : first + 1000])
    queries = neighbourhoods(100, 9)
    while (await index.state("image")).kind == "exact":
        await asyncio.gather(*(index.search(query, 10, "image", None) for query in queries))
    watcher.cancel()
    await index.close()
    return worst_s


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("k", [10, 18_000])  # and more than half of the rows, which one core looks at
def test_what_is_shared_out_over_the_cores_is_the_whole_answer(dtype: DType, count: int, k: int) -> None:
    vectors, queries = ExactVectors(dtype), neighbourhoods(count, 9)
    vectors.append(neighbourhoods(33_333, 1))
    true = queries @ vectors.read(np.arange(33_333)).T
    scores, rows = vectors.search(queries, k)
    assert all(len(set(found)) == k for found in rows.tolist())
    assert scores == pytest.approx(np.take_along_axis(true, rows, axis=1), abs=1e-5)
    assert scores == pytest.approx(-np.sort(-true, axis=1)[:, :k], abs=1e-5)


async def test_a_search_is_answered_with_the_ones_before_it_and_waits_for_no_change_between(store: SqliteStore) -> None:
    # If it did, then of many callers that ask again and again, each batch would hold a single one, for good.
    index = await opened(store, NEVER)
    contents, order = contents_of(40_000), []

    async def note(name: str, call: Coroutine[Any, Any, object]) -> None:
        await call
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for name, call in (
            ("upsert", index.upsert(contents[:20_000])),
            ("search", index.search(contents[0].embedding.vector, 1, "image", None)),
            ("late upsert", index.upsert(contents[20_000:])),
            ("late search", index.search(contents[1].embedding.vector, 1, "image", None)),
        ):
            group.create_task(note(name, call))
    assert order == ["upsert", "search", "late search", "late upsert"]
    await index.close()


async def test_a_close_during_a_build_ends_it(store: SqliteStore) -> None:
    index = await opened(store, 100)
    await index.upsert(contents_of(8000))
    while (await index.state("image")).build is None:
        await asyncio.sleep(0)
    started = time.monotonic()
    await index.close()
    assert time.monotonic() - started < 5
