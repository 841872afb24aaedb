"""What a recommendation costs the store."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.cluster

from index_sidecar.archive.content import Content, Embedding
from index_sidecar.archive.errors import Overloaded
from index_sidecar.archive.filters import filter_of
from index_sidecar.archive.recommender import Recommender
from index_sidecar.archive.relevance import Calibration
from index_sidecar.archive.search import Search
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex

from ..support.contents import content_of
from ..support.engines import Engine
from ..support.fake_torchserve import FINGERPRINT
from ..support.fake_vectors import vector_of


async def _calibration() -> Calibration:
    return Calibration()


async def test_in_an_archive_of_one_type_few_contents_are_read(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "contents.sqlite")
    contents = [content_of(f"id {i}", b"%d" % i, user="ann" if i % 100 == 0 else "bob") for i in range(3000)]
    await asyncio.gather(*(store.put(replace(content, created=float(i))) for i, content in enumerate(contents)))
    index = FaissIndex(tmp_path, "float32", 10**9, 0.95)
    await index.load(store)

    read: list[str] = []
    store.database.reader.connection.set_trace_callback(read.append)
    result = await Recommender(store, index, _calibration, 2).recommend("ann", Search(10), 0.3, 0, ("text", "image"))
    assert len(result.recommendations) == 10
    asked = [statement for statement in read if "id IN (SELECT value FROM json_each" in statement]
    ids = sum(statement.count('"id ') for statement in asked)
    assert 1 <= len(asked) <= 2
    assert 10 <= ids <= 7 * (10 + 20)  # k and some spare ones of each seed
    await index.close()
    await store.close()


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many vectors were clustered, each time."""
    seen: list[int] = []
    fit = sklearn.cluster.HDBSCAN.fit

    def counted(self: sklearn.cluster.HDBSCAN, vectors: object) -> sklearn.cluster.HDBSCAN:
        seen.append(len(vectors))  # type: ignore[arg-type]
        return fit(self, vectors)

    monkeypatch.setattr(sklearn.cluster.HDBSCAN, "fit", counted)
    return seen


async def test_a_history_that_has_not_changed_is_not_clustered_again(tmp_path: Path, fits: list[int]) -> None:
    store, index = SqliteStore(tmp_path / "contents.sqlite"), FaissIndex(tmp_path, "float32", 10**9, 0.95)
    contents = [
        replace(content_of(f"id {i}", b"%d" % i, user="ann" if i < 40 else "bob"), created=float(i)) for i in range(200)
    ]
    await asyncio.gather(*(store.put(each) for each in contents))
    await index.load(store)
    recommender = Recommender(store, index, _calibration, 2)

    async def ask(seed: int) -> list[str]:
        result = await recommender.recommend("ann", Search(10), 0.3, seed, ("text", "image"))
        return [each.hit.id for each in result.recommendations]

    first = await ask(0)
    assert [await ask(0), len(await ask(1)), fits] == [first, 10, [40]]
    await store.put(replace(content_of("id 7", b"something else", user="ann"), created=7.0))
    await ask(0)
    assert fits == [40, 40]  # the same ids, other bytes
    await store.delete("id 8")
    await ask(0)
    assert fits == [40, 40, 39]
    await store.put(contents[7])
    await store.put(contents[8])
    assert [await ask(0), fits] == [first, [40, 40, 39]]
    await index.close()
    await store.close()


async def test_many_recommendations_at_once_hold_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, index = SqliteStore(tmp_path / "contents.sqlite"), FaissIndex(tmp_path, "float32", 10**9, 0.95)
    await asyncio.gather(*(store.put(content_of(f"id {i}", b"%d" % i, user=f"u{i % 40}")) for i in range(400)))
    await index.load(store)
    lock, under_way, most = threading.Lock(), 0, 0
    fit = sklearn.cluster.HDBSCAN.fit

    def slow(self: sklearn.cluster.HDBSCAN, vectors: object) -> sklearn.cluster.HDBSCAN:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.2)
        with lock:
            under_way -= 1
        return fit(self, vectors)

    monkeypatch.setattr(sklearn.cluster.HDBSCAN, "fit", slow)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    recommender = Recommender(store, index, _calibration, 0.5)

    async def ask(user: str) -> tuple[float, int | None]:
        started, refused = time.monotonic(), None
        try:
            await recommender.recommend(user, Search(5), 0.3, 0, ("text",))
        except Overloaded as error:
            refused = error.retry_after_s
        return time.monotonic() - started, refused

    answers = await asyncio.gather(*(ask(f"u{i}") for i in range(40)))
    assert most == 2
    assert max(seconds for seconds, _ in answers) < 2  # one after the other they take 4 s
    refused = [retry for _, retry in answers if retry is not None]
    assert 20 < len(refused) < 40
    assert min(refused) >= 1
    at_once = await asyncio.gather(*(ask(f"u{i}") for i in range(40)))
    late = [seconds for seconds, retry in at_once if retry is not None]
    assert sum(seconds < 0.1 for seconds in late) > 10  # it is known by now how long one takes
    assert (await ask("u39"))[1] is None
    await index.close()
    await store.close()


TAGGED = filter_of({"must": [{"key": "tag", "match": {"value": "x"}}]})


async def _recommended(engine: Engine, k: int) -> list[Content]:
    """To ann, of what bears the tag."""
    recommender = Recommender(engine.store, engine.index, _calibration, 10)
    found = await recommender.recommend("ann", Search(k, filter=TAGGED), 0.3, 0, ("text", "image"))
    ids = [each.hit.id for each in found.recommendations]
    assert len(set(ids)) == len(ids)
    return await engine.store.get_many(ids)


async def test_with_a_filter_there_are_k_where_k_pass(engine: Engine) -> None:
    contents = [
        replace(
            content_of(f"id {i:03}", b"%d" % i, "text" if i % 2 else "image", "ann" if i % 10 == 0 else "bob"),
            created=float(i),
            metadata={"tag": "x" if i % 8 == 0 else "y"},
        )
        for i in range(400)
    ]
    await engine.upsert(contents)
    new = {content.id for content in contents if content.metadata["tag"] == "x" and content.user == "bob"}
    assert len(new) == 40
    for k in (1, 10, 39, 40, 60):
        found = await _recommended(engine, k)
        assert len(found) == min(k, 40)
        assert {content.id for content in found} <= new


async def test_copies_of_what_passes_take_no_place_from_the_others(engine: Engine) -> None:
    common = vector_of(b"common", "text")

    def near(content: Content, noise: float) -> Content:
        vector = common + noise * vector_of(content.id.encode(), "text")
        unit = (vector / np.linalg.norm(vector)).astype(np.float32)
        return replace(content, embedding=Embedding(unit, FINGERPRINT))

    copies = [near(content_of(f"copy {number:03}", b"%d" % number, user="bob"), 0.1) for number in range(200)]
    mine = near(content_of("mine", user="ann"), 0.6)  # cosine 0.86 to the copies, which are 0.99 to each other
    others = [content_of(f"other {number}", b"other %d" % number, user="bob") for number in range(12)]
    await engine.upsert([mine, *(replace(each, metadata={"tag": "x"}) for each in (*copies, *others))])
    found = await _recommended(engine, 10)
    assert len(found) == 10
    assert sum(content.id.startswith("copy") for content in found) == 1
