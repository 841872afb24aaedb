"""What only FaissIndex promises: erased memory, failures that are mended from the store, and a loop that goes on."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_sidecar.archive.content import Content, ContentType, Embedding, Vector, VectorPage
from index_sidecar.archive.errors import NotReady
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.approximate import ApproximateVectors
from index_sidecar.vectors.exact import ExactVectors
from index_sidecar.vectors.training import better_centroids, lists_for, train

from ..support.engines import best
from ..support.fake_torchserve import FINGERPRINT
from ..support.vectors import NEVER, built, contents_of, neighbourhoods, opened, stored


@pytest.mark.parametrize("kind", ["exact", "approximate"])
def test_what_was_removed_is_gone_from_memory_too(kind: str) -> None:
    rows = neighbourhoods(300, 1)
    vectors = trained(rows) if kind == "approximate" else ExactVectors("float32")
    vectors.append(rows)
    memory = vectors.memory()  # Faiss keeps the room of removed rows
    for row in (*range(100, 148), 0, 250):
        vectors.remove(row)
    assert sum(np.count_nonzero(part.any(axis=1)) for part in memory) == 250 * (1 if kind == "exact" else 2)


def trained(rows: Vector) -> ApproximateVectors:
    """Empty ones, for these."""
    learned = train(better_centroids(None, rows, lists_for(len(rows))), rows, len(rows))
    assert learned is not None
    return ApproximateVectors(learned)


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


async def test_what_is_added_again_while_the_store_is_read_is_on_the_shelf_once(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    class Busy(SqliteStore):
        """A store that others write to after each page of it was read."""

        def pages(self, content_type: ContentType, batch: int) -> Iterator[VectorPage]:
            for number, page in enumerate(super().pages(content_type, 100)):
                yield page
                if number == 1:
                    asyncio.run_coroutine_threadsafe(self._again(), loop).result(10)

        async def _again(self) -> None:
            for content in contents[:150]:
                await self.delete(content.id)
                await self.put(content)

    store, contents = Busy(tmp_path / "data" / "contents.sqlite"), contents_of(500)
    await asyncio.gather(*(store.put(content) for content in contents))
    index = await opened(store, NEVER)
    assert await index.count("image") == 500
    for query in neighbourhoods(3, 9):
        assert await index.search(query, 1000, "image", None) == best(contents, query, 1000, "image", None)
    await index.delete([content.id for content in contents[:150]])
    assert await index.count("image") == 350
    await index.close()
    await store.close()


@pytest.mark.parametrize("exact_rows", [NEVER, 1000])
async def test_a_failure_is_told_and_mended_from_the_store(store: SqliteStore, exact_rows: int) -> None:
    index = await opened(store, exact_rows)
    contents = contents_of(1500)
    await stored(store, index, contents)
    if exact_rows < NEVER:
        await built(index)
    changed = replace(contents[3], user="new owner")
    broken = replace(contents[4], embedding=Embedding(np.ones(7, np.float32), FINGERPRINT))
    await store.put(changed)
    with pytest.raises(NotReady):
        await index.upsert([changed, broken])
    assert [index.intact] == [False]
    query = contents[0].embedding.vector
    for call in (index.search(query, 1, "image", None), index.upsert(contents[:1]), index.delete(["1 00007"])):
        with pytest.raises(NotReady):
            await call
    await index.load(store)
    assert (index.intact, await index.count("image")) == (True, 1500)
    (hit,) = await index.search(changed.embedding.vector, 1, "image", None)
    assert (hit.id, hit.user) == (changed.id, "new owner")
    assert (await index.state("image")).kind == ("exact" if exact_rows == NEVER else "approximate")
    await stored(store, index, contents_of(5, 2))
    assert await index.count("image") == 1505
    await index.close()


async def test_memory_that_is_short_in_a_change_is_a_failure_too(store: SqliteStore) -> None:
    index = await opened(store, NEVER)
    # The index takes memory for all rows in one piece, so much that no hole in what was freed before holds it.
    (content,) = contents_of(1)
    contents = [replace(content, id=f"id {number}") for number in range(150_000)]
    await index.upsert(contents[:1])
    gc.collect()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 20_000_000, hard))
    try:
        with pytest.raises(NotReady):
            await index.upsert(contents)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert [index.intact] == [False]
    await index.load(store)
    assert (index.intact, await index.count("image")) == (True, 0)
    await index.close()


async def test_what_is_put_in_while_many_are_deleted_stays_and_searches_go_on(store: SqliteStore) -> None:
    index = await opened(store, NEVER)
    contents = contents_of(20_000)
    await index.upsert(contents)
    deleting = asyncio.create_task(index.delete([content.id for content in contents[:19_000]]))
    await asyncio.sleep(0)
    answered = 0
    again = [replace(contents[18_999], user="again"), replace(contents[18_998], type="text")]
    await index.upsert(again)
    while not deleting.done():
        await index.search(contents[19_500].embedding.vector, 1, "image", None)
        answered += 1
    await deleting
    assert answered > 10
    assert [await index.count("image"), await index.count("text")] == [1001, 1]
    (hit,) = await index.search(again[0].embedding.vector, 1, "image", None)
    assert (hit.id, hit.user) == (again[0].id, "again")
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


async def test_a_search_is_answered_with_the_ones_before_it_and_waits_for_no_change_between(store: SqliteStore) -> None:
    # If it did, then of many callers that ask again and again, each batch would hold a single one, for good.
    index = await opened(store, NEVER)
    contents, order = contents_of(20_000), []

    async def note(name: str, call: Coroutine[Any, Any, object]) -> None:
        await call
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for name, call in (
            ("upsert", index.upsert(contents[:10_000])),
            ("search", index.search(contents[0].embedding.vector, 1, "image", None)),
            ("late upsert", index.upsert(contents[10_000:])),
            ("late search", index.search(contents[1].embedding.vector, 1, "image", None)),
        ):
            group.create_task(note(name, call))
    assert order == ["upsert", "search", "late search", "late upsert"]
    await index.close()
