"""All contents of a user are erased, in steps, also among adds."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing

import pytest

from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore

from .support.erasing import left_of, nth_content, nth_text
from .support.sidecar import Sidecar, running


async def test_a_user_goes_in_steps_that_others_come_between(settings: Settings) -> None:
    store = SqliteStore(settings.data_dir / "contents.sqlite")
    await asyncio.gather(*(store.put(nth_content(i), b"p" * 3000) for i in range(3000)))
    await store.close()
    async with running(settings) as sidecar:
        await sidecar.add("bob's", nth_text(1), user="bob")
        erasing = asyncio.create_task(sidecar.call("DELETE", "/users/ann/contents"))
        added = 0
        while not erasing.done():
            assert (await sidecar.add(f"more {added}", nth_text(5000), user="bob")).status == 201
            added += 1
        assert (await erasing).json == {"deleted": 3000}
        assert added >= 5
        assert (await sidecar.call("GET", "/contents?user=ann")).json["contents"] == []
        assert (await sidecar.call("GET", "/health")).json["contents"]["text"] == added + 1
        assert left_of(settings.data_dir, [nth_text(i) for i in range(2, 3000, 300)]) == []


async def test_what_fails_in_the_middle_of_a_user_is_finished_by_the_next_call(settings: Settings) -> None:
    path = settings.data_dir / "contents.sqlite"
    store = SqliteStore(path)
    await asyncio.gather(*(store.put(nth_content(i)) for i in range(2000)))
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


@pytest.mark.parametrize("seed", range(3))
async def test_a_user_erased_among_adds_leaves_store_and_index_agreed(sidecar: Sidecar, seed: int) -> None:
    numbers = random.Random(seed)
    await asyncio.gather(*(sidecar.add(f"old {i}", nth_text(i), user="ann") for i in range(10)))
    calls = [sidecar.add(f"id {i % 12}", nth_text(100 + i), user=("ann", "bob")[i % 2]) for i in range(40)]
    calls += [sidecar.call("DELETE", "/users/ann/contents") for _ in range(3)]
    numbers.shuffle(calls)
    replies = await asyncio.gather(*calls)
    assert {reply.status for reply in replies} <= {200, 201}
    listed = (await sidecar.call("GET", "/contents")).json["contents"]
    hits = (await sidecar.retrieve(b"q", k="1000")).json["contents"]
    assert {(each["id"], each["user"]) for each in listed} == {(each["id"], each["user"]) for each in hits}
    assert not [each for each in listed if each["id"].startswith("old")]
