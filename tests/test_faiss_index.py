"""FaissIndex against the plainest search there is: every score computed, then sorted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from index_sidecar.content import CONTENT_TYPES, Content, ContentType, Embedding, Hit, Vector
from index_sidecar.faiss_index import FaissIndex

from .contents import content_of
from .fake_torchserve import vector_of

USERS = (None, "ann", "bob", "漢")


@pytest.fixture
def index() -> Iterator[FaissIndex]:
    index = FaissIndex()
    yield index
    index.close()


def _oracle(
    contents: Iterable[Content], query: Vector, k: int, content_type: ContentType, without_user: str | None
) -> list[Hit]:
    chosen = [each for each in contents if each.type == content_type]
    chosen = [each for each in chosen if without_user is None or each.user != without_user]
    scored = [(each, float(each.embedding.vector.astype(np.float64) @ query)) for each in chosen]
    scored.sort(key=lambda pair: (-pair[1], pair[0].id))
    return [Hit(each.id, each.type, each.user, score) for each, score in scored[:k]]


def _same(found: list[Hit], expected: list[Hit]) -> None:
    assert [replace(hit, score=0.0) for hit in found] == [replace(hit, score=0.0) for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)


def _query(name: object) -> Vector:
    return vector_of(str(name).encode(), "text")


def _exact(content_id: str, numbers: random.Random, user: str | None = None) -> Content:
    """A unit vector of 256 entries of ±1/16: all sums of its products are exact, so scores tie often and exactly."""
    vector = np.zeros(512, np.float32)
    for place in numbers.sample(range(512), 256):
        vector[place] = numbers.choice((-1, 1)) / 16
    content = content_of(content_id, user=user)
    return replace(content, embedding=Embedding(vector, content.embedding.fingerprint))


async def test_an_empty_index_finds_nothing(index: FaissIndex) -> None:
    for content_type in CONTENT_TYPES:
        assert await index.search(_query("q"), 10, content_type, None) == []
        assert await index.search(_query("q"), 10, content_type, "ann") == []
        assert await index.count(content_type) == 0
    await index.delete("nothing")
    await index.upsert([])


async def test_a_content_finds_itself_with_score_one(index: FaissIndex) -> None:
    contents = [content_of(f"id {i}", b"%d" % i) for i in range(20)]
    await index.upsert(contents)
    for content in contents:
        (hit,) = await index.search(content.embedding.vector, 1, "text", None)
        assert replace(hit, score=1.0) == Hit(content.id, "text", None, 1.0)
        assert 1 - 1e-5 < hit.score <= 1.0


@pytest.mark.parametrize("seed", range(4))
async def test_it_equals_brute_force_after_any_history(index: FaissIndex, seed: int) -> None:
    numbers = random.Random(seed)
    truth: dict[str, Content] = {}
    for step in range(300):
        if numbers.random() < 0.35:
            content_id = f"id {numbers.randrange(150)}"
            truth.pop(content_id, None)
            await index.delete(content_id)
        else:
            ids = {f"id {numbers.randrange(150)}" for _ in range(numbers.choice((1, 1, 1, 12)))}
            batch = [
                content_of(each, numbers.randbytes(8), numbers.choice(CONTENT_TYPES), numbers.choice(USERS))
                for each in ids
            ]
            truth |= {content.id: content for content in batch}
            await index.upsert(batch)
        if step % 15 == 0:
            for content_type in CONTENT_TYPES:
                assert await index.count(content_type) == sum(each.type == content_type for each in truth.values())
                for k, user in ((1, None), (7, None), (7, "ann"), (20, "nobody"), (1000, "漢"), (1000, None)):
                    query = _query((seed, step, k))
                    found = await index.search(query, k, content_type, user)
                    _same(found, _oracle(truth.values(), query, k, content_type, user))


async def test_it_grows_and_shrinks_far(index: FaissIndex) -> None:
    contents = [content_of(f"id {i:04}", b"%d" % i, user=f"user {i % 7}") for i in range(2500)]
    await index.upsert(contents[:1])
    await index.upsert(contents[1:])
    _same(await index.search(_query("q"), 20, "text", "user 3"), _oracle(contents, _query("q"), 20, "text", "user 3"))
    for content in contents[:2490]:
        await index.delete(content.id)
    _same(await index.search(_query("q"), 20, "text", None), _oracle(contents[2490:], _query("q"), 20, "text", None))
    for content in contents:
        await index.delete(content.id)
    assert await index.search(_query("q"), 20, "text", None) == []


async def test_one_who_owns_nearly_everything_still_gets_k_of_the_others(index: FaissIndex) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, user="hog") for i in range(500)]
    contents += [content_of(f"other {i}", b"other %d" % i, user=user) for i, user in enumerate((None, "ann", "ann"))]
    await index.upsert(contents)
    query = contents[0].embedding.vector  # the hog's own are the best
    for k in (1, 2, 3, 4, 1000):
        _same(await index.search(query, k, "text", "hog"), _oracle(contents, query, k, "text", "hog"))
    await index.upsert([replace(each, user="hog") for each in contents[500:]])
    assert await index.search(query, 5, "text", "hog") == []


async def test_a_content_that_changes_hands_is_counted_for_its_new_owner(index: FaissIndex) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, user="ann") for i in range(5)]
    await index.upsert(contents)
    contents[2] = replace(contents[2], user=None)
    contents[3] = replace(contents[3], user="bob")
    await index.upsert(contents[2:4])
    for user in (None, "ann", "bob"):
        _same(await index.search(_query("q"), 9, "text", user), _oracle(contents, _query("q"), 9, "text", user))


async def test_what_was_deleted_is_gone_from_memory_too(index: FaissIndex) -> None:
    contents = [content_of(f"id {i}", b"%d" % i) for i in range(3)]
    await index.upsert(contents)
    memory = index._shelves["text"]._vectors()  # Faiss keeps the room of deleted rows
    await index.delete("id 0")
    await index.delete("id 2")
    assert memory[0].tolist() == contents[1].embedding.vector.tolist()
    assert not memory[1:].any()


async def test_the_type_of_an_id_can_change(index: FaissIndex) -> None:
    await index.upsert([content_of("a", b"one", "text")])
    await index.upsert([content_of("a", b"two", "image")])
    assert [await index.count("text"), await index.count("image")] == [0, 1]
    assert await index.search(_query("q"), 9, "text", None) == []


@pytest.mark.parametrize("types", [("text", "text"), ("text", "image"), ("image", "text")])
async def test_of_one_id_twice_in_a_batch_the_last_counts(
    index: FaissIndex, types: tuple[ContentType, ContentType]
) -> None:
    batch = [content_of("a", b"%d" % i, content_type, f"user {i}") for i, content_type in enumerate(types)]
    await index.upsert(batch)
    assert await index.count("text") + await index.count("image") == 1
    _same(await index.search(_query("q"), 9, types[1], None), _oracle(batch[1:], _query("q"), 9, types[1], None))


async def test_equal_vectors_are_ranked_by_id(index: FaissIndex) -> None:
    contents = [content_of(content_id, b"same") for content_id in ("d", "a", "e", "c", "b")]
    await index.upsert(contents)
    assert [hit.id for hit in await index.search(_query("q"), 5, "text", None)] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("user", [None, "ann", "hog"])
@pytest.mark.parametrize("k", [1, 2, 3, 8, 30])
async def test_ties_are_cut_by_id_as_well(index: FaissIndex, k: int, user: str | None) -> None:
    numbers = random.Random(7)
    owners = ("hog", "hog", "hog", "ann", None)
    contents = [_exact(f"id {numbers.randrange(10**6):06}", numbers, owners[i % 5]) for i in range(400)]
    twins = [replace(contents[0], id=f"twin {i}", user=None) for i in (4, 2, 0, 3, 1)]
    await index.upsert([*contents, *twins])
    for query in (contents[0], _exact("query", numbers)):
        vector = query.embedding.vector
        found = await index.search(vector, k, "text", user)
        assert found == _oracle([*contents, *twins], vector, k, "text", user)  # exactly, scores too


async def test_concurrent_searches_answer_like_single_ones(index: FaissIndex) -> None:
    contents = [
        content_of(f"id {i}", b"%d" % i, CONTENT_TYPES[i % 2], USERS[i % 4] if i % 5 else "hog") for i in range(600)
    ]
    await index.upsert(contents)
    asked = [
        (_query(i), (1, 10, 50)[i % 3], CONTENT_TYPES[i % 2], (None, "ann", "hog", "nobody")[i % 4]) for i in range(300)
    ]
    answers = await asyncio.gather(*(index.search(*each) for each in asked))
    for each, answer in zip(asked, answers, strict=True):
        _same(answer, _oracle(contents, *each))


async def test_searches_among_changes_see_whole_contents_only(index: FaissIndex) -> None:
    # One id moves between two vectors and two owners while it is searched: no answer may mix the two.
    here, there = content_of("a", b"here", user="ann"), content_of("a", b"there", user="bob")
    await index.upsert([here, content_of("b", b"other")])
    query = here.embedding.vector
    scores = {"ann": 1.0, "bob": float(there.embedding.vector @ query)}
    for i in range(50):
        _, hits = await asyncio.gather(index.upsert([(there, here)[i % 2]]), index.search(query, 2, "text", None))
        (hit,) = [hit for hit in hits if hit.id == "a"]
        assert hit.score == pytest.approx(scores[hit.user or ""], abs=1e-5)


async def test_a_caller_who_leaves_takes_no_answer_from_the_others(index: FaissIndex) -> None:
    contents = [content_of(f"id {i}", b"%d" % i) for i in range(50)]
    await index.upsert(contents)
    tasks = [asyncio.create_task(index.search(_query(i), 3, "text", None)) for i in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for i in range(1, 20, 2):
        answer = answers[i]
        assert isinstance(answer, list)
        _same(answer, _oracle(contents, _query(i), 3, "text", None))
