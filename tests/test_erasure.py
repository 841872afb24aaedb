"""Erasure is real: after the reply, the vector and the preview of what was erased are in no file of DATA_DIR."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sqlite3
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_sidecar.archive.content import Content, Embedding
from index_sidecar.archive.ports import Written
from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore

from .support.fake_torchserve import FINGERPRINT, vector_of
from .support.sidecar import Sidecar, running


def _on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _left(folder: Path, texts: list[bytes]) -> list[bytes]:
    """Which of these texts have left their vector or themselves in a file."""
    disk = _on_disk(folder)
    vectors = {text: vector_of(text, "text") for text in texts}
    return [
        text
        for text, vector in vectors.items()
        if text in disk or vector.tobytes()[:256] in disk or vector.astype("<f2").tobytes()[:128] in disk
    ]


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


def _text(number: int) -> bytes:
    return b"the text number %d, which nobody else says" % number


async def test_what_was_erased_is_in_no_file(engine: Settings) -> None:
    async with running(engine) as sidecar:
        await asyncio.gather(*(sidecar.add(f"id {i}", _text(i), user=f"user {i % 3}") for i in range(60)))
        await _settled(sidecar, engine)
        assert len(_left(engine.data_dir, [_text(i) for i in range(60)])) == 60  # the search finds what is there
        gone = [_text(i) for i in range(60) if i % 3 == 0]
        reply = await sidecar.call("DELETE", "/users/user%200/contents")
        assert (reply.status, reply.json) == (200, {"deleted": 20})
        assert _left(engine.data_dir, gone) == []
        assert (await sidecar.call("DELETE", "/contents/id%201")).status == 204
        assert _left(engine.data_dir, [*gone, _text(1)]) == []
        assert (await sidecar.add("id 2", b"something else")).json["status"] == "replaced"
        assert _left(engine.data_dir, [*gone, _text(1), _text(2)]) == []
        assert len(_left(engine.data_dir, [_text(i) for i in range(60)])) == 38  # and the others are untouched
    assert _left(engine.data_dir, [*gone, _text(1), _text(2)]) == []
    async with running(engine) as sidecar:
        assert not {"id 0", "id 1"} & set(await sidecar.found(_text(0), k="100"))


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
        await _overwritten(await asyncio.gather(*calls))
    disk = _on_disk(tmp_path / "data")
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


async def _overwritten(writes: Sequence[Written]) -> None:
    assert all(await asyncio.gather(*(written.is_overwritten(10) for written in writes)))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Another program in the middle of a read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM contents").fetchall()
        yield
        reader.execute("COMMIT")


async def test_erasure_waits_for_a_program_that_reads_the_file(engine: Settings) -> None:
    async with running(engine) as sidecar:
        # So many that there is an approximate index.
        await asyncio.gather(*(sidecar.add(f"id {i}", _text(100 + i)) for i in range(40)))
        await sidecar.add("a", _text(1))
        await _settled(sidecar, engine)
        with _reading(engine.data_dir / "contents.sqlite"):
            erasing = asyncio.create_task(sidecar.call("DELETE", "/contents/a"))
            assert (await sidecar.add("b", _text(2))).status == 201  # nobody else waits
            await asyncio.sleep(0.5)
            assert not erasing.done()
            assert "a" not in await sidecar.found(_text(1), k="100")  # but what is erased is in no answer any more
            assert (await sidecar.call("GET", "/contents/a")).status == 404
            assert (await sidecar.call("GET", "/health")).json["erasures_due"] == 1
        assert (await erasing).status == 204
        assert _left(engine.data_dir, [_text(1)]) == []
        assert (await sidecar.call("GET", "/health")).json["erasures_due"] == 0


async def test_a_long_reader_holds_up_nobody(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "index_sidecar.sqlite")
    async with running(replace(settings, erase_wait_s=1)) as sidecar:
        await asyncio.gather(*(sidecar.add(f"id {i}", _text(i), user="ann" if i > 2 else "bob") for i in range(10)))
        with _reading(settings.data_dir / "contents.sqlite"):
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
            assert sorted(await sidecar.found(_text(1))) == ["id 1", "id 2"]
            assert "overwritten" not in (await sidecar.add("new", _text(11))).json
            slowest = 0.0
            for number in range(50):
                started = time.monotonic()
                await sidecar.add(f"more {number}", _text(100 + number))
                slowest = max(slowest, time.monotonic() - started)
            assert slowest < 0.5
            assert len(_left(settings.data_dir, [_text(i) for i in range(10)])) == 10  # it is all still there
        async with asyncio.timeout(10):
            while (await sidecar.call("GET", "/health")).json["erasures_due"]:
                await asyncio.sleep(0.02)
        assert _left(settings.data_dir, [_text(i) for i in range(10) if i != 2]) == []
    told = [record.getMessage() for record in caplog.records if "overwritten" in record.getMessage()]
    assert [("another program reads" in each, "9 erasures are" in each) for each in told] == [
        (True, False),
        (False, True),
    ]


async def test_while_a_long_log_is_read_no_try_keeps_anybody_out(tmp_path: Path) -> None:
    path = tmp_path / "data" / "contents.sqlite"
    store = SqliteStore(path)
    await asyncio.gather(*(store.put(_content(i)) for i in range(100)))
    with _reading(path):
        written = await store.delete("id 0")
        for first in range(100, 600, 10):
            await asyncio.gather(*(store.put(_content(i), b"p" * 30_000) for i in range(first, first + 10)))
        assert path.with_name("contents.sqlite-wal").stat().st_size > 1100 * 16_384
        seen: list[str] = []
        store.database.overwriter.connection.set_trace_callback(seen.append)
        await asyncio.sleep(2.5)
        assert sum("PASSIVE" in each for each in seen) >= 2
        assert not any("TRUNCATE" in each for each in seen)
    assert await written.is_overwritten(10)
    assert sum("TRUNCATE" in each for each in seen) == 1
    assert _left(path.parent, [_text(0)]) == []
    await store.close()


async def test_a_backlog_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "contents.sqlite"
    store = SqliteStore(path)
    await asyncio.gather(*(store.put(_content(i)) for i in range(10)))
    with _reading(path):
        written = await store.delete("id 0")
        assert not await written.is_overwritten(0.1)
        closing_store = asyncio.create_task(store.close())
        assert not await written.is_overwritten(10)  # nobody waits for what this process will not see
        await closing_store
        store = SqliteStore(path)
        assert store.erasures_due() == 1
        await store.put(_content(11))
        assert _left(path.parent, [_text(0)]) == [_text(0)]
    async with asyncio.timeout(10):
        while store.erasures_due():
            await asyncio.sleep(0.01)
    assert _left(path.parent, [_text(0)]) == []
    await store.close()


async def test_erasures_that_come_together_share_a_checkpoint(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    await asyncio.gather(*(store.put(_content(i)) for i in range(200)))
    seen: list[str] = []
    store.database.overwriter.connection.set_trace_callback(seen.append)
    deletes = await asyncio.gather(*(store.delete(f"id {i}") for i in range(200)))
    assert all(written.gone for written in deletes)
    await _overwritten(deletes)
    assert 1 <= sum("wal_checkpoint(TRUNCATE)" in each for each in seen) <= 3
    await store.close()


async def test_a_user_goes_in_steps_that_others_come_between(settings: Settings) -> None:
    store = SqliteStore(settings.data_dir / "contents.sqlite")
    await asyncio.gather(*(store.put(_content(i), b"p" * 3000) for i in range(3000)))
    await store.close()
    async with running(settings) as sidecar:
        await sidecar.add("bob's", _text(1), user="bob")
        erasing = asyncio.create_task(sidecar.call("DELETE", "/users/ann/contents"))
        added = 0
        while not erasing.done():
            assert (await sidecar.add(f"more {added}", _text(5000), user="bob")).status == 201
            added += 1
        assert (await erasing).json == {"deleted": 3000}
        assert added >= 5
        assert (await sidecar.call("GET", "/contents?user=ann")).json["contents"] == []
        assert (await sidecar.call("GET", "/health")).json["contents"]["text"] == added + 1
        assert _left(settings.data_dir, [_text(i) for i in range(2, 3000, 300)]) == []


async def test_what_fails_in_the_middle_of_a_user_is_finished_by_the_next_call(settings: Settings) -> None:
    path = settings.data_dir / "contents.sqlite"
    store = SqliteStore(path)
    await asyncio.gather(*(store.put(_content(i)) for i in range(2000)))
    await store.close()
    async with running(settings) as sidecar:
        erasing = asyncio.create_task(sidecar.call("DELETE", "/users/ann/contents"))
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as writer:
            while writer.execute("SELECT count(*) FROM contents").fetchone() == (2000,):
                await asyncio.sleep(0.001)
            writer.execute("BEGIN IMMEDIATE")  # for longer than anybody waits
            assert (await erasing).error == (503, "storage_unavailable")
            left = writer.execute("SELECT id FROM contents").fetchall()
            writer.execute("COMMIT")
        assert 0 < len(left) < 2000
        hits = (await sidecar.retrieve(b"q", k="1000")).json["contents"]
        assert {hit["id"] for hit in hits} <= {content_id for (content_id,) in left}  # store and index agree
        assert (await sidecar.call("DELETE", "/users/ann/contents")).json == {"deleted": len(left)}
        assert (await sidecar.retrieve(b"q", k="1000")).json["contents"] == []


def _content(number: int) -> Content:
    embedding = Embedding(vector_of(_text(number), "text"), FINGERPRINT)
    return Content(f"id {number}", "text", "ann", bytes(32), 0.0, embedding)


@pytest.mark.parametrize("seed", range(3))
async def test_a_user_erased_among_adds_leaves_store_and_index_agreed(sidecar: Sidecar, seed: int) -> None:
    numbers = random.Random(seed)
    await asyncio.gather(*(sidecar.add(f"old {i}", _text(i), user="ann") for i in range(10)))
    calls = [sidecar.add(f"id {i % 12}", _text(100 + i), user=("ann", "bob")[i % 2]) for i in range(40)]
    calls += [sidecar.call("DELETE", "/users/ann/contents") for _ in range(3)]
    numbers.shuffle(calls)
    replies = await asyncio.gather(*calls)
    assert {reply.status for reply in replies} <= {200, 201}
    listed = (await sidecar.call("GET", "/contents")).json["contents"]
    hits = (await sidecar.retrieve(b"q", k="1000")).json["contents"]
    assert {(each["id"], each["user"]) for each in listed} == {(each["id"], each["user"]) for each in hits}
    assert not [each for each in listed if each["id"].startswith("old")]
