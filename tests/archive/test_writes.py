"""Store and index never disagree: whoever leaves, and whatever fails in between."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from index_sidecar.app import create_app
from index_sidecar.archive.content import Content
from index_sidecar.archive.errors import NotReady, Overloaded, StorageUnavailable
from index_sidecar.archive.writes import Writes
from index_sidecar.http.handlers import SERVICE
from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex

from ..support.contents import content_of
from ..support.fake_torchserve import FakeTorchServe
from ..support.sidecar import Sidecar, running


class FailingIndex(FaissIndex):
    """Fails in the next so many changes, as an index fails whose memory is gone."""

    failures = 0

    async def upsert(self, contents: Sequence[Content]) -> None:
        self._fail()
        await super().upsert(contents)

    async def delete(self, ids: Sequence[str]) -> None:
        self._fail()
        await super().delete(ids)

    def _fail(self) -> None:
        if FailingIndex.failures:
            FailingIndex.failures -= 1
            raise NotReady("failed")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[FailingIndex]:
    monkeypatch.setattr("index_sidecar.app.FaissIndex", FailingIndex)
    FailingIndex.failures = 0
    return FailingIndex


async def test_what_the_index_did_not_take_is_found_all_the_same(
    settings: Settings, failing: type[FailingIndex]
) -> None:
    async with running(settings) as sidecar:
        failing.failures = 1
        assert (await sidecar.add("a", b"one")).error == (503, "not_ready")
        await sidecar.wait_ready()
        assert (await sidecar.add("a", b"one")).json["status"] == "unchanged"
        assert await sidecar.found(b"one") == ["a"]


async def test_until_it_is_mended_nothing_is_answered_from_a_broken_index(
    settings: Settings, failing: type[FailingIndex]
) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"one")
        failing.failures = 1
        assert (await sidecar.call("DELETE", "/contents/a")).error == (503, "not_ready")
        assert (await sidecar.retrieve(b"one")).status in (200, 503)
        await sidecar.wait_ready()
        assert await sidecar.found(b"one") == []
        assert (await sidecar.call("DELETE", "/contents/a")).error == (404, "not_found")


async def test_an_erasure_that_fails_midway_is_finished_by_the_next_call(
    settings: Settings, failing: type[FailingIndex]
) -> None:
    async with running(settings) as sidecar:
        await asyncio.gather(*(sidecar.add(f"{n}", b"%d" % n, user="ada") for n in range(450)))
        failing.failures = 1
        assert (await sidecar.call("DELETE", "/users/ada/contents")).error == (503, "not_ready")
        await sidecar.wait_ready()
        left = (await sidecar.call("DELETE", "/users/ada/contents")).json["deleted"]
        assert 0 < left < 450
        assert await sidecar.found(b"1", k="1000") == []


async def test_unchanged_makes_sure_of_the_index(settings: Settings) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"one")
        service = sidecar.client.server.app[SERVICE]  # type: ignore[attr-defined]
        await service._index.delete(["a"])  # as if it had never arrived there
        assert await sidecar.found(b"one") == []
        assert (await sidecar.add("a", b"one")).json["status"] == "unchanged"
        assert await sidecar.found(b"one") == ["a"]


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02])
async def test_a_caller_who_leaves_leaves_nothing_half_done(
    settings: Settings, fake: FakeTorchServe, after_s: float
) -> None:
    async with running(settings) as sidecar:
        for n in range(20):
            adding = asyncio.create_task(sidecar.add(f"{n}", b"text %d" % n, user="ada"))
            await asyncio.sleep(after_s)
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)
        await _agree(sidecar)
        erasing = asyncio.create_task(sidecar.call("DELETE", "/users/ada/contents"))
        await asyncio.sleep(after_s)
        erasing.cancel()
        await asyncio.gather(erasing, return_exceptions=True)
        await _agree(sidecar)


async def _agree(sidecar: Sidecar) -> None:
    """What is listed is what is found, once what was begun has ended."""
    await asyncio.sleep(0.2)
    listed = {
        entry["id"] for entry in (await sidecar.call("GET", "/contents", params={"limit": "1000"})).json["contents"]
    }
    assert set(await sidecar.found(b"anything", k="1000")) == listed


async def test_a_write_that_hangs_is_told_in_time_and_done_in_store_and_index(tmp_path: Path) -> None:
    store, index = SqliteStore(tmp_path / "contents.sqlite"), FaissIndex(tmp_path, "float32", 200_000, 0.95)
    await index.load(store)
    writes = Writes(store, index, lambda: None, limit_s=0.3)
    await asyncio.gather(*(writes.put(content_of(each, each.encode(), user="ann"), None) for each in "abc"))
    disk = threading.Event()

    def hang(statement: str) -> None:
        if statement == "COMMIT":
            disk.wait(10)

    store.database.write_connection.set_trace_callback(hang)
    started = time.monotonic()
    calls = (
        writes.put(content_of("d", b"new"), None),
        writes.put(content_of("a", b"other"), None),
        writes.delete("b", None),
        writes.delete_user("nobody"),
        writes.delete_user("ann"),
    )
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - started < 1
    assert [type(answer) for answer in answers] == [*[StorageUnavailable] * 3, tuple, StorageUnavailable]
    begun, started = len(writes._under_way), time.monotonic()
    for _ in range(100):
        with pytest.raises(StorageUnavailable):
            await writes.put(content_of("e", b"late"), None)
    assert (len(writes._under_way), time.monotonic() - started < 0.3) == (begun, True)  # nothing gathers
    disk.set()
    await writes.finish()
    await writes.delete("a", None)
    found = await index.search(content_of("q", b"q").embedding.vector, 10, "text", None)
    stored = {content.id for content in await store.get_many(list("abcd"))}
    assert {hit.id for hit in found} == stored == {"c", "d"}  # ann's were behind b's turn, and never begun
    await index.close()
    await store.close()


async def test_a_caller_who_leaves_keeps_the_turn_until_the_write_is_done(tmp_path: Path) -> None:
    store, index = SqliteStore(tmp_path / "contents.sqlite"), FaissIndex(tmp_path, "float32", 200_000, 0.95)
    await index.load(store)
    writes = Writes(store, index, lambda: None, limit_s=30)
    for _ in range(20):

        async def put(data: bytes) -> None:
            async with writes.turns.of("a"):
                await writes.put(content_of("a", data), None)

        first = asyncio.create_task(put(b"first"))
        await asyncio.sleep(0)
        second = asyncio.create_task(put(b"second"))
        await asyncio.sleep(0.0005)
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        (hit,) = await index.search(content_of("a", b"second").embedding.vector, 1, "text", None)
        assert hit.score == 1.0
        stored = await store.get("a")
        assert stored is not None
        assert stored.sha256 == content_of("a", b"second").sha256
    await writes.finish()
    await index.close()
    await store.close()


def test_the_app_starts_nothing_before_it_is_served(settings: Settings) -> None:
    create_app(settings)
    assert not os.path.exists(settings.data_dir)


async def test_nobody_waits_for_a_turn_without_limit(tmp_path: Path) -> None:
    store, index = SqliteStore(tmp_path / "contents.sqlite"), FaissIndex(tmp_path, "float32", 200_000, 0.95)
    await index.load(store)
    writes = Writes(store, index, lambda: None, limit_s=30, turn_s=0.3)
    for content_id in ("a", "b", "c"):
        async with writes.turns.of(content_id):
            await writes.put(content_of(content_id, content_id.encode(), user="ada"), None)
    async with writes.turns.of("b"):  # an add that waits for the model
        started = time.monotonic()
        calls = writes.delete("b", None), writes.delete_user("ada"), writes.set_metadata("b", dict, None)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert 0.2 < time.monotonic() - started < 1
        assert [type(answer) for answer in answers] == [Overloaded] * 3
        assert all(isinstance(answer, Overloaded) and answer.retry_after_s >= 1 for answer in answers)
        async with writes.turns.of("a", "c"):  # what was waited for beside it is free again
            pass
    assert (await writes.delete_user("ada"))[0] == 3  # and nothing was erased in part
    assert not writes.turns._queues
    await writes.finish()
    await index.close()
    await store.close()


async def test_waiting_for_a_turn_is_no_fault_of_the_storage(tmp_path: Path) -> None:
    store, index = SqliteStore(tmp_path / "contents.sqlite"), FaissIndex(tmp_path, "float32", 200_000, 0.95)
    await index.load(store)
    writes = Writes(store, index, lambda: None, 0.2)
    for content_id in ("a", "b"):
        async with writes.turns.of(content_id):
            await writes.put(content_of(content_id, content_id.encode(), user="ada"), None)
    async with writes.turns.of("a"):  # an add that waits for the model
        deleting, erasing = (
            asyncio.create_task(writes.delete("a", None)),
            asyncio.create_task(writes.delete_user("ada")),
        )
        await asyncio.sleep(0.5)
        assert not deleting.done()
        assert not erasing.done()
        async with writes.turns.of("c"):
            await writes.put(content_of("c", b"c"), None)  # others are not held up, nor told that the disk hangs
    assert list((await deleting).gone) == ["a"]
    assert (await erasing)[0] == 1
    assert await store.get("b") is None
    await writes.finish()
    await index.close()
    await store.close()
