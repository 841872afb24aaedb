"""Searches among what passes a filter on an approximate index: few, many, and those in one corner of the space."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index_sidecar.archive.content import Content, Embedding, Vector
from index_sidecar.archive.filters import Filter, Selection
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex

from ..support.engines import best
from ..support.fake_torchserve import FINGERPRINT
from ..support.vectors import built, contents_of, neighbourhoods

ROWS = 12_000
QUERIES = neighbourhoods(24, 9)


@pytest.fixture
def index(runner: asyncio.Runner, tmp_path: Path) -> Iterator[FaissIndex]:
    """An approximate one of ROWS images."""

    async def fill() -> FaissIndex:
        store = SqliteStore(tmp_path / "contents.sqlite")
        index = FaissIndex(tmp_path, "float32", 2000, 0.95)
        await index.load(store)
        await index.upsert(contents_of(ROWS))
        await built(index)
        await store.close()
        return index

    index = runner.run(fill())
    yield index
    runner.run(index.close())


def _passing(contents: Sequence[Content], part: float, where: str) -> list[Content]:
    """So many of them: spread evenly, or the nearest to a point."""
    count = round(len(contents) * part)
    if where == "spread":
        chosen = np.random.default_rng(3).permutation(len(contents))[:count]
    else:
        vectors = np.stack([content.embedding.vector for content in contents])
        chosen = np.argsort(-(vectors @ neighbourhoods(1, 77)[0]))[:count]
    return [contents[number] for number in chosen]


def _selection(passing: Sequence[Content]) -> Selection:
    return Selection(Filter(), np.array(sorted(content.key or 0 for content in passing)))


async def _check(index: FaissIndex, passing: Sequence[Content], k: int = 10) -> None:
    """Of what passes, and of nothing else, it finds nearly all of the k best, and k where there are so many."""
    among = _selection(passing)
    passing_ids = {content.id for content in passing}
    vectors = np.stack([content.embedding.vector for content in passing])
    recalls = []
    for query in QUERIES:
        hits = await index.search(query, k, "image", None, among)
        assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
        ids = {hit.id for hit in hits}
        assert len(ids) == len(hits) == min(k, len(passing))
        assert ids <= passing_ids
        true = {passing[row].id for row in np.argsort(-(vectors @ query))[:k]}
        recalls.append(len(ids & true) / len(true))
    assert np.mean(recalls) >= 0.95


@pytest.mark.parametrize("where", ["spread", "corner"])
async def test_it_finds_what_passes_whatever_its_part_and_place(index: FaissIndex, where: str) -> None:
    contents = contents_of(ROWS)
    for part in (0.9, 0.5, 0.1, 0.01, 0.001, 0.0003):
        await _check(index, _passing(contents, part, where))
    await _check(index, _passing(contents, 0.5, where), 300)
    await _check(index, _passing(contents, 0.05, where), 700)


async def test_it_does_so_after_deletes_and_replacements(index: FaissIndex) -> None:
    contents = contents_of(ROWS)
    gone, moved = contents[:900], contents[900:1800]
    vectors = neighbourhoods(len(moved), 5)
    for where in ("spread", "corner"):
        await _check(index, _passing(contents, 0.5, where))
    await index.delete([content.id for content in gone])
    contents = [
        *(replace(content, embedding=_embedding(vector)) for content, vector in zip(moved, vectors, strict=True)),
        *contents[1800:],
        *contents_of(500, 8),
    ]
    await index.upsert([*contents[:900], *contents[-500:]])
    assert (await index.state("image")).kind == "approximate"
    for where in ("spread", "corner"):
        for part in (0.5, 0.1, 0.01):
            await _check(index, _passing(contents, part, where))
    among = _selection(gone)
    assert await index.search(QUERIES[0], 10, "image", None, among) == []


async def test_the_users_own_are_left_out_of_what_passes(index: FaissIndex) -> None:
    contents = contents_of(ROWS)
    for part in (0.5, 0.05, 0.002):
        passing = _passing(contents, part, "corner")
        among = _selection(passing)
        for user in ("hog", "nobody"):
            found = [await index.search(query, 10, "image", user, among) for query in QUERIES]
            assert all(len(hits) == 10 and all(hit.user != user for hit in hits) for hits in found)
            true = [best(passing, query, 10, "image", user) for query in QUERIES[:8]]
            pairs = zip(found[:8], true, strict=True)
            same = [len({hit.id for hit in one} & {hit.id for hit in other}) / 10 for one, other in pairs]
            assert np.mean(same) >= 0.95


def _embedding(vector: Vector) -> Embedding:
    return Embedding(vector, FINGERPRINT)
