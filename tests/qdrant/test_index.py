"""QdrantIndex on a real node: what it finds, leaves out and puts in order, beside the plainest search there is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from index_sidecar.archive.content import CONTENT_TYPES, Content, ContentType, Hit, Vector
from index_sidecar.qdrant.index import QdrantIndex
from index_sidecar.qdrant.store import QdrantStore

from ..support.contents import content_of
from ..support.fake_vectors import vector_of
from ..support.qdrant_server import QdrantServers


class Engine:
    """Store and index on one collection: what the service does with both, the tests do with one call."""

    def __init__(self, store: QdrantStore, index: QdrantIndex) -> None:
        self.store = store
        self.index = index

    async def upsert(self, contents: Iterable[Content]) -> None:
        await self.store.put_all([(content, None) for content in contents])


@pytest.fixture
def engine(runner: asyncio.Runner, qdrant: QdrantServers, collection_name: str) -> Iterator[Engine]:
    async def make() -> Engine:
        collection = qdrant.collection(collection_name)
        return Engine(QdrantStore(collection), QdrantIndex(collection, 256))

    engine = runner.run(make())
    yield engine
    runner.run(engine.store.close())


def _query(name: object) -> Vector:
    return vector_of(str(name).encode(), "text")


async def test_the_users_own_are_left_out_exactly(engine: Engine) -> None:
    contents = [content_of(f"id {i:03}", b"%d" % i, user="hog") for i in range(300)]
    contents += [content_of(f"other {i}", b"other %d" % i, user=user) for i, user in enumerate((None, "ann", "ann"))]
    await engine.upsert(contents)
    query = contents[0].embedding.vector  # the hog's own are the best
    for k in (1, 2, 3, 1000):
        found = await engine.index.search(query, k, "text", "hog")
        assert len(found) == min(k, 3)
        assert {hit.user for hit in found} <= {None, "ann"}
    assert len(await engine.index.search(query, 1000, "text", "nobody")) == 303
    assert len(await engine.index.search(query, 1000, "text", None)) == 303


@pytest.mark.parametrize("k", [1, 3, 10, 59, 60, 61])
async def test_equal_scores_are_cut_by_id_also_where_there_are_many_of_them(engine: Engine, k: int) -> None:
    twins = [content_of(f"twin {i:02}", b"same") for i in range(60)]
    random.Random(k).shuffle(twins)
    await engine.upsert(twins)
    found = await engine.index.search(twins[0].embedding.vector, k, "text", None)
    assert [hit.id for hit in found] == [f"twin {i:02}" for i in range(min(k, 60))]


async def test_scores_are_cosines_and_pass_one_never(engine: Engine) -> None:
    contents = [content_of(f"id {i}", b"%d" % i) for i in range(50)]
    await engine.upsert(contents)
    hits = await engine.index.search(_query("q"), 50, "text", None)
    expected = {each.id: float(each.embedding.vector @ _query("q")) for each in contents}
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-6)
    for content in contents:
        (hit,) = await engine.index.search(content.embedding.vector, 1, "text", None)
        assert replace(hit, score=1.0) == Hit(content.id, "text", None, 1.0)
        assert 1 - 1e-6 < hit.score <= 1.0


async def test_past_the_size_where_qdrant_builds_a_graph_it_still_finds(
    engine: Engine, qdrant: QdrantServers, collection_name: str
) -> None:
    # 10 MB of vectors in one segment is where a graph begins; these have neighbours, as real ones do.
    contents = [content_of(f"id {i}", b"%d" % i, CONTENT_TYPES[i % 2], f"user {i % 4}") for i in range(1600)]
    for first in range(0, len(contents), 500):
        await engine.upsert(contents[first : first + 500])
    node = qdrant.nodes[0]
    # Qdrant's own way to have it earlier: from 1 MB on.
    body = {"optimizers_config": {"indexing_threshold": 1000, "default_segment_number": 1}}
    node.call("PATCH", f"/collections/{collection_name}", {**body, "hnsw_config": {"full_scan_threshold": 10}})
    async with asyncio.timeout(30):
        while node.call("GET", f"/collections/{collection_name}")["indexed_vectors_count"] < 1000:
            await asyncio.sleep(0.1)
    hits = 0
    for content in contents[:200]:
        found = await engine.index.search(content.embedding.vector, 3, content.type, None)
        assert [hit.type for hit in found] == [content.type] * 3
        hits += found[0].id == content.id
        others = await engine.index.search(content.embedding.vector, 10, content.type, content.user)
        assert len(others) == 10
        assert content.user not in {hit.user for hit in others}
    assert hits >= 195


async def test_the_types_do_not_mix_and_can_change(engine: Engine) -> None:
    await engine.upsert([content_of("a", b"one", "text"), content_of("b", b"two", "image")])
    assert [(await engine.index.state(each)).size for each in CONTENT_TYPES] == [1, 1]
    await engine.upsert([content_of("a", b"three", "image")])
    assert [(await engine.index.state(each)).size for each in CONTENT_TYPES] == [0, 2]
    assert await engine.index.search(_query("q"), 9, "text", None) == []
    assert {hit.id for hit in await engine.index.search(_query("q"), 9, "image", None)} == {"a", "b"}


async def test_a_content_that_changes_under_the_search_leaks_to_nobody(engine: Engine) -> None:
    here, there = content_of("a", b"here", user="ann"), content_of("a", b"there", "image", user="bob")
    await engine.upsert([here, content_of("b", b"other")])
    for i in range(60):
        searches = [engine.index.search(here.embedding.vector, 2, each, "bob") for each in CONTENT_TYPES]
        change = asyncio.create_task(engine.upsert([(there, here)[i % 2]]))
        answers = await asyncio.gather(*searches)
        await change
        assert {(hit.id, hit.type, hit.user) for hits in answers for hit in hits} <= {
            ("a", "text", "ann"),
            ("b", "text", None),
        }


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
async def test_nothing_is_found_where_nothing_was_ever_stored(engine: Engine, content_type: ContentType) -> None:
    assert await engine.index.search(_query("q"), 10, content_type, None) == []
    assert await engine.index.count(content_type) == 0


async def test_a_count_is_some_seconds_old_and_costs_a_search_nothing(engine: Engine, qdrant: QdrantServers) -> None:
    await engine.upsert([content_of("a", b"one")])
    assert await engine.index.count("text") == 1
    await engine.upsert([content_of("b", b"two")])
    before = _counts_asked(qdrant)
    assert [await engine.index.count("text") for _ in range(50)] == [1] * 50
    assert _counts_asked(qdrant) == before
    async with asyncio.timeout(10):
        while await engine.index.count("text") != 2:
            await asyncio.sleep(0.05)


def _counts_asked(qdrant: QdrantServers) -> int:
    """How many counts the node says it has answered."""
    endpoint = "POST /collections/{collection_name}/points/count"
    responses = qdrant.nodes[0].call("GET", "/telemetry?details_level=2")["requests"]["rest"]["responses"]
    return sum(each["count"] for each in responses.get(endpoint, {}).values())
