"""What every VectorIndex does, whatever is behind it; an engine more is a case more of the fixture `engine`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import replace

import numpy as np
import pytest

from index_sidecar.archive.content import CONTENT_TYPES, Content, ContentType, Embedding, Hit

from ..support.contents import content_of
from ..support.engines import Engine, best, check, count, query_of
from ..support.fake_vectors import vector_of

USERS = (None, "ann", "bob", "漢")


def _exact(content_id: str, numbers: random.Random, user: str | None = None) -> Content:
    """A unit vector of 256 entries of ±1/16: all sums of its products are exact, so scores tie often and exactly."""
    vector = np.zeros(512, np.float32)
    for place in numbers.sample(range(512), 256):
        vector[place] = numbers.choice((-1, 1)) / 16
    content = content_of(content_id, user=user)
    return replace(content, embedding=Embedding(vector, content.embedding.fingerprint))


async def test_an_empty_index_finds_nothing(engine: Engine) -> None:
    for content_type in CONTENT_TYPES:
        assert await engine.index.search(query_of("q"), 10, content_type, None) == []
        assert await engine.index.search(query_of("q"), 10, content_type, "ann") == []
        assert await count(engine, content_type) == 0
    await engine.index.delete(["nothing"])
    await engine.index.delete([])
    await engine.index.upsert([])


async def test_a_content_finds_itself_with_score_one(engine: Engine) -> None:
    contents = [content_of(f"id {i}", b"%d" % i) for i in range(20)]
    await engine.upsert(contents)
    for content in contents:
        (hit,) = await engine.index.search(content.embedding.vector, 1, "text", None)
        assert replace(hit, score=1.0) == Hit(content.id, "text", None, 1.0)
        assert 1 - engine.score_error < hit.score <= 1.0
        if engine.score_error == 1e-6:
            assert hit.score == 1.0, "min_score=1 finds the content itself"


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_any_history(engine: Engine, seed: int) -> None:
    numbers = random.Random(seed)
    truth: dict[str, Content] = {}
    for step in range(200):
        if numbers.random() < 0.35:
            content_id = f"id {numbers.randrange(150)}"
            truth.pop(content_id, None)
            await engine.delete(content_id)
        else:
            ids = {f"id {numbers.randrange(150)}" for _ in range(numbers.choice((1, 1, 1, 12)))}
            batch = [
                content_of(each, numbers.randbytes(8), numbers.choice(CONTENT_TYPES), numbers.choice(USERS))
                for each in ids
            ]
            truth |= {content.id: content for content in batch}
            await engine.upsert(batch)
        if step == 120:
            await engine.restart()
        if step % 20 == 0:
            for content_type in CONTENT_TYPES:
                assert await count(engine, content_type) == sum(each.type == content_type for each in truth.values())
                for k, user in ((1, None), (7, None), (7, "ann"), (20, "nobody"), (1000, "漢"), (1000, None)):
                    await check(engine, truth.values(), query_of((seed, step, k)), k, content_type, user)


async def test_one_who_owns_nearly_everything_still_gets_k_of_the_others(engine: Engine) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, user="hog") for i in range(300)]
    contents += [content_of(f"other {i}", b"other %d" % i, user=user) for i, user in enumerate((None, "ann", "ann"))]
    await engine.upsert(contents)
    query = contents[0].embedding.vector  # the hog's own are the best
    for k in (1, 2, 3, 4, 1000):
        await check(engine, contents, query, k, "text", "hog")
    await engine.upsert([replace(each, user="hog") for each in contents[300:]])
    assert await engine.index.search(query, 5, "text", "hog") == []


async def test_a_content_that_changes_hands_is_counted_for_its_new_owner(engine: Engine) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, user="ann") for i in range(5)]
    await engine.upsert(contents)
    contents[2] = replace(contents[2], user=None)
    contents[3] = replace(contents[3], user="bob")
    await engine.upsert(contents[2:4])
    for user in (None, "ann", "bob"):
        await check(engine, contents, query_of("q"), 9, "text", user)


async def test_a_replaced_content_is_found_by_its_new_vector_only(engine: Engine) -> None:
    await engine.upsert([content_of(f"id {i}", b"%d" % i) for i in range(10)])
    await engine.upsert([content_of("id 3", b"new")])
    for query, score in ((b"new", 1.0), (b"3", float(vector_of(b"3", "text") @ vector_of(b"new", "text")))):
        hits = {hit.id: hit.score for hit in await engine.index.search(vector_of(query, "text"), 10, "text", None)}
        assert len(hits) == 10
        assert hits["id 3"] == pytest.approx(score, abs=engine.score_error)


async def test_the_type_of_an_id_can_change(engine: Engine) -> None:
    await engine.upsert([content_of("a", b"one", "text")])
    await engine.upsert([content_of("a", b"two", "image")])
    assert [await count(engine, "text"), await count(engine, "image")] == [0, 1]
    assert await engine.index.search(query_of("q"), 9, "text", None) == []
    (hit,) = await engine.index.search(query_of("q"), 9, "image", None)
    assert hit.id == "a"


@pytest.mark.parametrize("types", [("text", "text"), ("text", "image"), ("image", "text")])
async def test_of_one_id_twice_in_a_batch_the_last_counts(
    engine: Engine, types: tuple[ContentType, ContentType]
) -> None:
    batch = [content_of("a", b"%d" % i, content_type, f"user {i}") for i, content_type in enumerate(types)]
    await engine.upsert(batch)
    assert await count(engine, "text") + await count(engine, "image") == 1
    await check(engine, batch[1:], query_of("q"), 9, types[1], None)


@pytest.mark.parametrize("move", ["nothing", "restart"])
async def test_equal_vectors_are_ranked_by_id(engine: Engine, move: str) -> None:
    await engine.upsert([content_of(content_id, b"same") for content_id in ("d", "a", "e", "c", "b")])
    if move == "restart":
        await engine.restart()
    assert [hit.id for hit in await engine.index.search(query_of("q"), 5, "text", None)] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("user", [None, "ann", "hog"])
async def test_ties_are_cut_by_id_as_well(engine: Engine, user: str | None) -> None:
    numbers = random.Random(7)
    owners = ("hog", "hog", "hog", "ann", None)
    contents = [_exact(f"id {numbers.randrange(10**6):06}", numbers, owners[i % 5]) for i in range(400)]
    contents += [replace(contents[0], id=f"twin {i}", user=None) for i in (4, 2, 0, 3, 1)]
    await engine.upsert(contents)
    for query in (contents[0], _exact("query", numbers)):
        vector = query.embedding.vector
        for k in (1, 2, 3, 8, 30):
            found = await engine.index.search(vector, k, "text", user)
            if engine.exact:
                assert found == best(contents, vector, k, "text", user)  # exactly, scores too
            else:
                assert found == sorted(found, key=lambda hit: (-hit.score, hit.id))


async def test_a_restart_brings_everything_back(engine: Engine) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, CONTENT_TYPES[i % 2], USERS[i % 4]) for i in range(200)]
    await engine.upsert(contents)
    for content in contents[:10]:
        await engine.delete(content.id)
    for _ in range(2):
        await engine.restart()
        assert [await engine.held(each) for each in CONTENT_TYPES] == [95, 95]
        for content_type in CONTENT_TYPES:
            await check(engine, contents[10:], query_of("q"), 20, content_type, "ann")


async def test_concurrent_searches_answer_like_single_ones(engine: Engine) -> None:
    contents = [
        content_of(f"id {i}", b"%d" % i, CONTENT_TYPES[i % 2], USERS[i % 4] if i % 5 else "hog") for i in range(400)
    ]
    await engine.upsert(contents)
    types: list[ContentType] = [CONTENT_TYPES[i % 2] for i in range(200)]
    checks = [
        check(engine, contents, query_of(i), (1, 10, 50)[i % 3], types[i], (None, "ann", "hog", "nobody")[i % 4])
        for i in range(200)
    ]
    await asyncio.gather(*checks)


async def test_searches_among_changes_see_whole_contents_only(engine: Engine) -> None:
    # One id moves between two vectors and two owners while it is searched: no answer may mix the two.
    here, there = content_of("a", b"here", user="ann"), content_of("a", b"there", user="bob")
    await engine.upsert([here, content_of("b", b"other")])
    query = here.embedding.vector
    scores = {"ann": 1.0, "bob": float(there.embedding.vector @ query)}
    for i in range(50):
        changed: Awaitable[None] = engine.index.upsert([(there, here)[i % 2]])
        _, hits = await asyncio.gather(changed, engine.index.search(query, 2, "text", None))
        (hit,) = [hit for hit in hits if hit.id == "a"]
        assert hit.score == pytest.approx(scores[hit.user or ""], abs=engine.score_error)


async def test_a_score_is_the_same_whatever_else_is_asked_at_that_moment(engine: Engine) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, user=USERS[i % 4]) for i in range(300)]
    await engine.upsert(contents)
    queries = [query_of(i) for i in range(40)]
    alone = [await engine.index.search(query, 10, "text", None) for query in queries]
    together = await asyncio.gather(*(engine.index.search(query, 10, "text", None) for query in queries))
    scores = [{hit.id: hit.score for hit in hits} for hits in alone]
    for hits, before in zip(together, scores, strict=True):
        assert all(round(hit.score, 6) == hit.score for hit in hits)
        assert {hit.id: hit.score for hit in hits} == before or not engine.exact
        assert all(before.get(hit.id, hit.score) == hit.score for hit in hits)


async def test_many_are_deleted_at_once_and_what_is_added_meanwhile_stays(engine: Engine) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, CONTENT_TYPES[i % 2]) for i in range(700)]
    await engine.upsert(contents)
    again = content_of("id 598", b"again", "image")
    gone = [content.id for content in contents[:600]]
    await asyncio.gather(*(engine.store.delete(content_id) for content_id in gone))
    deleting = asyncio.create_task(engine.index.delete(gone))
    await asyncio.sleep(0)
    await engine.upsert([again])
    await deleting
    for content_type in CONTENT_TYPES:
        await check(engine, [*contents[600:], again], query_of("q"), 1000, content_type, None)


async def test_a_caller_who_leaves_takes_no_answer_from_the_others(engine: Engine) -> None:
    contents = [content_of(f"id {i}", b"%d" % i) for i in range(50)]
    await engine.upsert(contents)
    tasks = [asyncio.create_task(check(engine, contents, query_of(i), 3, "text", None)) for i in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1::2] == [None] * 10
