"""The approximate index is made in the background, when it is worth it, and nothing is lost meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from index_sidecar.archive.content import Hit
from index_sidecar.sqlite.store import SqliteStore

from ..support.engines import best
from ..support.vectors import apart, built, contents_of, found, logged, neighbourhoods, opened, stored


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
    assert (state.kind, state.size, state.snapshot, state.build) == ("approximate", 2000, "written", None)
    assert state.recall is not None
    assert sorted(state.recall) == ["image->image", "text->image"]
    assert all(recall >= 0.9 for recall in state.recall.values())
    assert state.memory_bytes is not None
    assert 2000 * (1024 + 512) < state.memory_bytes < 2000 * 2048
    assert np.mean([await found(index, contents, query) for query in neighbourhoods(100, 9)]) >= 0.9
    assert (await index.state("text")).kind == "exact"
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
                index.upsert(new[2 * changes : 2 * changes + 2]),
                index.upsert([replaced[changes]]),
                index.delete([gone]),
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

    await index.upsert(contents_of(300))
    await logged(caplog, "stays exact")
    await index.upsert(contents_of(200, 2))
    await asyncio.sleep(0.1)
    state = await index.state("image")
    assert (state.kind, state.nprobe, state.build) == ("exact", None, None)
    assert state.recall is not None
    assert 0 < state.recall["image->image"] <= 1
    assert caplog.text.count("stays exact") == 1
    await index.upsert(contents_of(200, 3))
    await logged(caplog, "stays exact", 2)
    await index.close()


async def test_it_is_built_anew_when_it_has_doubled_or_lost_a_fifth(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    index = await opened(store, 100)
    contents = contents_of(400)
    await index.upsert(contents)
    await logged(caplog, "approximate now: 400 rows")
    await index.upsert(contents_of(400, 2))
    await logged(caplog, "approximate now: 800 rows")
    await index.delete([content.id for content in contents[:159]])
    await asyncio.sleep(0.05)
    assert (await index.state("image")).build is None
    await index.delete([contents[159].id])
    await logged(caplog, "approximate now: 640 rows")
    await index.close()


async def test_a_type_that_has_shrunk_is_exact_again_with_all_that_changed_meanwhile(store: SqliteStore) -> None:
    index = await opened(store, 1000)
    contents = {content.id: content for content in contents_of(1200)}
    await stored(store, index, list(contents.values()))
    await built(index)
    gone, late = list(contents)[:300], list(contents)[300:500]
    for content_id in (*gone, *late):
        contents.pop(content_id)
    await asyncio.gather(*(store.delete(content_id) for content_id in gone))
    await index.delete(gone)

    async def change() -> None:
        for number, content_id in enumerate(late):
            await store.delete(content_id)
            await index.delete([content_id])
            new = replace(contents_of(1, 100 + number)[0], id=f"new {number}")
            await stored(store, index, [new])
            contents[new.id] = new

    changes = asyncio.create_task(change())
    async with asyncio.timeout(20):
        while (await index.state("image")).kind != "exact":
            await asyncio.sleep(0.001)
    assert not changes.done(), "nothing changed meanwhile: this has shown nothing"
    await changes
    assert (await index.state("image")).snapshot == "none"
    assert list(store.folder.glob("index-image*")) == []
    for query in neighbourhoods(3, 9):
        assert await index.search(query, 2000, "image", None) == best(contents.values(), query, 2000, "image", None)
    await index.close()


async def test_a_build_anew_that_is_refused_goes_back_to_exact(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    index = await opened(store, 300, recall=0.9)
    await stored(store, index, contents_of(1500))
    await built(index)
    # No neighbourhoods at all: no few lists hold the nearest of these.
    odd = [
        replace(content, embedding=replace(content.embedding, vector=vector))
        for content, vector in zip(contents_of(1700, 2), apart(1700, 3), strict=True)
    ]
    await stored(store, index, odd)
    await logged(caplog, "stays exact")
    async with asyncio.timeout(20):
        while (await index.state("image")).kind != "exact":
            await asyncio.sleep(0.005)
    (hit,) = await index.search(odd[0].embedding.vector, 1, "image", None)
    assert (hit.id, hit.score) == (odd[0].id, 1.0)
    await index.close()


async def test_a_close_during_a_build_ends_it(store: SqliteStore) -> None:
    index = await opened(store, 100)
    await index.upsert(contents_of(8000))
    while (await index.state("image")).build is None:
        await asyncio.sleep(0)
    started = time.monotonic()
    await index.close()
    assert time.monotonic() - started < 5
