"""Erasure is real: after the reply, the vector and the preview of what was erased are in no file of DATA_DIR."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_sidecar.archive.content import Content, Embedding
from index_sidecar.archive.ports import Written
from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore

from .support.erasing import left_of, nth_content, nth_text, on_disk, overwritten, reading
from .support.fake_torchserve import FINGERPRINT
from .support.sidecar import Sidecar, running

ENGINES: dict[str, dict[str, Any]] = {
    "exact": {},
    # The vectors of the fake model have no neighbourhoods, so lists cannot reach much: here any recall will do.
    "approximate": {"index_exact_rows": 0, "index_recall": -1.0},
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings of a sidecar on each engine whose files lie in DATA_DIR."""
    return replace(settings, **ENGINES[request.param])


async def _settled(sidecar: Sidecar, settings: Settings) -> None:
    """Wait until the index is of the kind it will be, and its snapshot written where there will be one."""
    kind = "exact" if settings.index_exact_rows else "approximate"
    snapshot = "none" if kind == "exact" else "written"
    async with asyncio.timeout(60):
        while True:
            state = (await sidecar.call("GET", "/index")).json["text"]
            if (state["kind"], state["snapshot"]) == (kind, snapshot):
                return
            await asyncio.sleep(0.01)


async def test_what_was_erased_is_in_no_file(engine: Settings) -> None:
    async with running(engine) as sidecar:
        await asyncio.gather(*(sidecar.add(f"id {i}", nth_text(i), user=f"user {i % 3}") for i in range(60)))
        await _settled(sidecar, engine)
        assert len(left_of(engine.data_dir, [nth_text(i) for i in range(60)])) == 60  # the search finds what is there
        gone = [nth_text(i) for i in range(60) if i % 3 == 0]
        reply = await sidecar.call("DELETE", "/users/user%200/contents")
        assert (reply.status, reply.json) == (200, {"deleted": 20})
        assert left_of(engine.data_dir, gone) == []
        assert (await sidecar.call("DELETE", "/contents/id%201")).status == 204
        assert left_of(engine.data_dir, [*gone, nth_text(1)]) == []
        assert (await sidecar.add("id 2", b"something else")).json["status"] == "replaced"
        assert left_of(engine.data_dir, [*gone, nth_text(1), nth_text(2)]) == []
        assert len(left_of(engine.data_dir, [nth_text(i) for i in range(60)])) == 38  # and the others are untouched
    assert left_of(engine.data_dir, [*gone, nth_text(1), nth_text(2)]) == []
    async with running(engine) as sidecar:
        assert not {"id 0", "id 1"} & set(await sidecar.found(nth_text(0), k="100"))


async def test_no_copy_survives_in_pages_that_were_rearranged(tmp_path: Path) -> None:
    """Balancing its trees, SQLite leaves copies of rows behind, which secure_delete does not reach: ours never move."""
    numbers = random.Random(1)
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    live: dict[str, tuple[Content, bytes | None]] = {}
    gone: list[tuple[Content, bytes | None]] = []

    def make(content_id: str) -> tuple[Content, bytes | None]:
        vector = np.frombuffer(numbers.randbytes(2048), "<u4").astype(np.float32)
        preview = numbers.randbytes(numbers.choice((300, 4000, 14_000, 20_000))) if numbers.random() < 0.8 else None
        user, created = f"user {numbers.randrange(20)}", numbers.random()
        return Content(
            content_id, "text", user, numbers.randbytes(32), created, Embedding(vector, FINGERPRINT)
        ), preview

    for step in range(160):
        calls: list[Awaitable[Written]] = []
        for place in range(numbers.choice((1, 3, 20))):
            chance = numbers.random()
            if chance < 0.5 or not live:
                content_id = f"id {step} {place}"
            else:
                content_id = numbers.choice(sorted(live))
                gone.append(live.pop(content_id))
            if chance < 0.7:
                live[content_id] = make(content_id)
                calls.append(store.put(*live[content_id]))
            else:
                calls.append(store.delete(content_id))
        await overwritten(await asyncio.gather(*calls))
    disk = on_disk(tmp_path / "data")
    assert len(gone) > 300
    for content, preview in gone:
        assert content.embedding.vector.tobytes()[700:764] not in disk
        for place in (0, len(preview) // 2, len(preview) - 64) if preview else ():
            assert preview is None or preview[place : place + 64] not in disk
    for content, preview in live.values():
        assert content.embedding.vector.tobytes()[700:764] in disk
        found = await store.preview(content.id)
        assert (found[1] if found else None) == preview
    await store.close()


async def test_erasure_waits_for_a_program_that_reads_the_file(engine: Settings) -> None:
    async with running(engine) as sidecar:
        # So many that there is an approximate index.
        await asyncio.gather(*(sidecar.add(f"id {i}", nth_text(100 + i)) for i in range(40)))
        await sidecar.add("a", nth_text(1))
        await _settled(sidecar, engine)
        with reading(engine.data_dir / "contents.sqlite"):
            erasing = asyncio.create_task(sidecar.call("DELETE", "/contents/a"))
            assert (await sidecar.add("b", nth_text(2))).status == 201  # nobody else waits
            await asyncio.sleep(0.5)
            assert not erasing.done()
            assert "a" not in await sidecar.found(nth_text(1), k="100")  # but what is erased is in no answer any more
            assert (await sidecar.call("GET", "/contents/a")).status == 404
            assert (await sidecar.call("GET", "/health")).json["erasures_due"] == 1
        assert (await erasing).status == 204
        assert left_of(engine.data_dir, [nth_text(1)]) == []
        assert (await sidecar.call("GET", "/health")).json["erasures_due"] == 0


async def _slowest_add_s(sidecar: Sidecar, first: int) -> float:
    """The slowest of 50 adds in a row. A machine that stands still slows one row of them, who holds them up each."""
    slowest = 0.0
    for number in range(first, first + 50):
        started = time.monotonic()
        await sidecar.add(f"more {number}", nth_text(number))
        slowest = max(slowest, time.monotonic() - started)
    return slowest


async def test_a_long_reader_holds_up_nobody(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "index_sidecar.sqlite")
    async with running(replace(settings, erase_wait_s=1)) as sidecar:
        await asyncio.gather(*(sidecar.add(f"id {i}", nth_text(i), user="ann" if i > 2 else "bob") for i in range(10)))
        with reading(settings.data_dir / "contents.sqlite"):
            started = time.monotonic()
            replies = await asyncio.gather(
                sidecar.call("DELETE", "/contents/id%200"),
                sidecar.call("DELETE", "/users/ann/contents"),
                sidecar.add("id 1", b"something else"),
            )
            assert 1 <= time.monotonic() - started < 3
            assert [reply.status for reply in replies] == [200, 200, 200]
            assert [reply.json.get("deleted") for reply in replies] == [None, 7, None]
            assert [reply.json["overwritten"] for reply in replies] == [False] * 3
            assert (await sidecar.call("GET", "/health")).json["erasures_due"] == 9
            assert sorted(await sidecar.found(nth_text(1))) == ["id 1", "id 2"]
            assert "overwritten" not in (await sidecar.add("new", nth_text(11))).json
            assert min([await _slowest_add_s(sidecar, first) for first in (100, 150, 200)]) < 0.5
            assert len(left_of(settings.data_dir, [nth_text(i) for i in range(10)])) == 10  # it is all still there
        async with asyncio.timeout(10):
            while (await sidecar.call("GET", "/health")).json["erasures_due"]:
                await asyncio.sleep(0.02)
        assert left_of(settings.data_dir, [nth_text(i) for i in range(10) if i != 2]) == []
    told = [record.getMessage() for record in caplog.records if "overwritten" in record.getMessage()]
    assert [("another program reads" in each, "9 erasures are" in each) for each in told] == [
        (True, False),
        (False, True),
    ]


async def test_while_a_long_log_is_read_no_try_keeps_anybody_out(tmp_path: Path) -> None:
    path = tmp_path / "data" / "contents.sqlite"
    store = SqliteStore(path)
    await asyncio.gather(*(store.put(nth_content(i)) for i in range(100)))
    with reading(path):
        written = await store.delete("id 0")
        for first in range(100, 600, 10):
            await asyncio.gather(*(store.put(nth_content(i), b"p" * 30_000) for i in range(first, first + 10)))
        assert path.with_name("contents.sqlite-wal").stat().st_size > 1100 * 16_384
        seen: list[str] = []
        store.database.overwriter.connection.set_trace_callback(seen.append)
        await asyncio.sleep(2.5)
        assert sum("PASSIVE" in each for each in seen) >= 2
        assert not any("TRUNCATE" in each for each in seen)
    assert await written.is_overwritten(10)
    assert sum("TRUNCATE" in each for each in seen) == 1
    assert left_of(path.parent, [nth_text(0)]) == []
    await store.close()


async def test_a_backlog_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "contents.sqlite"
    store = SqliteStore(path)
    await asyncio.gather(*(store.put(nth_content(i)) for i in range(10)))
    with reading(path):
        written = await store.delete("id 0")
        assert not await written.is_overwritten(0.1)
        closing_store = asyncio.create_task(store.close())
        assert not await written.is_overwritten(10)  # nobody waits for what this process will not see
        await closing_store
        store = SqliteStore(path)
        assert store.erasures_due() == 1
        await store.put(nth_content(11))
        assert left_of(path.parent, [nth_text(0)]) == [nth_text(0)]
    async with asyncio.timeout(10):
        while store.erasures_due():
            await asyncio.sleep(0.01)
    assert left_of(path.parent, [nth_text(0)]) == []
    await store.close()


async def test_erasures_that_come_together_share_a_checkpoint(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    await asyncio.gather(*(store.put(nth_content(i)) for i in range(200)))
    seen: list[str] = []
    store.database.overwriter.connection.set_trace_callback(seen.append)
    deletes = await asyncio.gather(*(store.delete(f"id {i}") for i in range(200)))
    assert all(written.gone for written in deletes)
    await overwritten(deletes)
    assert 1 <= sum("wal_checkpoint(TRUNCATE)" in each for each in seen) <= 3
    await store.close()
