"""Vectors that are compared one and all with a query."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import numpy as np
import pytest

from index_sidecar.archive.content import Content, Vector
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.allowed import Among
from index_sidecar.vectors.exact import DType, ExactVectors

from ..support.contents import content_of
from ..support.engines import best, query_of
from ..support.vectors import NEVER, contents_of, neighbourhoods, opened


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
        await index.delete([content.id])
    await same(contents[2490:], None)
    for content in contents:
        await index.delete([content.id])
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
        assert one == other
    await index.close()


@pytest.fixture(scope="module")
def many() -> Vector:
    """(33,333, 512): so many that one query among them is shared out, too."""
    rows = neighbourhoods(33_333, 1)
    rows.flags.writeable = False
    return rows


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("count", "k"),
    [(1, 10), (40, 10), (1, 18_000), (9, 18_000)],  # and more than half of the rows, which one core looks at
)
def test_what_is_shared_out_over_the_cores_is_the_whole_answer(many: Vector, dtype: DType, count: int, k: int) -> None:
    vectors, queries = ExactVectors(dtype), neighbourhoods(count, 9)
    vectors.append(many)
    true = queries @ vectors.read(np.arange(33_333)).T
    scores, rows = vectors.search(queries, k)
    assert all(len(set(found)) == k for found in rows.tolist())
    assert np.abs(scores - np.take_along_axis(true, rows, axis=1)).max() <= 1e-5
    assert np.abs(scores + np.sort(-true, axis=1)[:, :k]).max() <= 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("part", [1.0, 0.8, 0.3, 0.002])
def test_a_search_among_some_rows_finds_the_best_of_them_and_all_that_tie(
    many: Vector, dtype: DType, part: float
) -> None:
    vectors, (query,) = ExactVectors(dtype), neighbourhoods(1, 9)
    rows = many.copy()
    rows[20_000:20_400] = rows[np.argmax(rows @ query)]
    vectors.append(rows)
    allowed = np.random.default_rng(1).random(33_333) < part
    allowed[20_000:20_010] = True
    true = np.where(allowed, vectors.read(np.arange(33_333)) @ query, -9)
    for k in (1, 5, 40):
        found = vectors.search_among(query, k, None if part == 1.0 else Among.where(allowed))
        least = np.sort(true)[-k]
        assert set(np.flatnonzero(true > least + 1e-5)) <= set(found.tolist())
        assert set(np.flatnonzero(true > least - 1e-7)) <= set(found.tolist())
        assert len(set(found.tolist())) == len(found) <= np.count_nonzero(true > least - 1e-5)
        assert vectors.scores(query, found) == pytest.approx(true[found], abs=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_it_grows_where_a_copy_of_it_has_no_room(many: Vector, dtype: DType) -> None:
    vectors = ExactVectors(dtype)
    vectors.append(many)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = vectors.memory_bytes * 3 // 4
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, hard))
    try:
        for first in range(0, 5000, 1000):
            vectors.append(many[first : first + 1000])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    both = np.concatenate([many, many[:5000]])
    assert np.abs(vectors.read(np.arange(38_333)) - both).max() < 1e-3
