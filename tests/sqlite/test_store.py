"""The durable truth: what a put promises, what a file may be, and who may open it."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from index_sidecar.archive.content import VectorPage, digest
from index_sidecar.archive.errors import StorageFull, StorageUnavailable, StoreError
from index_sidecar.archive.filters import Filter, Match
from index_sidecar.sqlite.scans import PAGE
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of, plain
from ..support.fake_torchserve import FINGERPRINT
from ..support.sidecar import ROOT

OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "contents.sqlite"


@pytest.fixture
def store(runner: asyncio.Runner, path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    runner.run(store.close())


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _statements(store: SqliteStore, seen: list[str]) -> None:
    store.database.write_connection.set_trace_callback(seen.append)


async def test_the_settings_durability_rests_on_are_in_force(store: SqliteStore) -> None:
    await store.put(content_of("a"))
    names = ("journal_mode", "synchronous", "page_size", "secure_delete")
    assert {name: _pragma(store.database.write_connection, name) for name in names} == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "page_size": 16384,
        "secure_delete": 1,
    }


async def test_what_a_put_acknowledged_another_connection_reads(store: SqliteStore, path: Path) -> None:
    await store.put(content_of("a", b"one", user="u"))
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT id, type, user, sha256, created FROM contents").fetchall()
    connection.close()
    assert rows == [("a", "text", "u", digest(b"one"), 1_700_000_000.25)]


async def test_it_all_comes_back_after_a_close(path: Path) -> None:
    contents = [content_of(f"id {i}", b"%d" % i) for i in range(5)]
    store = SqliteStore(path)
    assert await store.fingerprint() is None
    for content in contents:
        await store.put(content)
    await store.close()
    store = SqliteStore(path)
    assert await store.fingerprint() == FINGERPRINT
    pages = list(store.scan(2))
    assert [[plain(content) for content in page] for page in pages] == [
        [plain(content) for content in contents[first : first + 2]] for first in (0, 2, 4)
    ]
    await store.close()


async def test_pages_are_all_of_the_contents_of_a_type(store: SqliteStore) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, ("text", "image")[i % 2], (None, "u")[i % 3 == 0]) for i in range(7)]
    for content in contents:
        await store.put(content)
    await store.delete("id 3")
    pages = list(store.pages("text", 3))
    assert [len(page.ids) for page in pages] == [3, 1]
    left = [content for content in contents if content.type == "text"]
    heads = [head for page in pages for head in zip(page.ids, page.users, page.sha256s, strict=True)]
    assert heads == [(each.id, each.user, each.sha256) for each in left]
    keys = [key for page in pages for key in page.keys]
    assert keys == [stored.key for stored in await store.get_many([each.id for each in left])]
    texts = await store.select(Filter(must=(Match("type", ("stext",)),)))
    assert keys == texts.keys.tolist()
    vectors = np.concatenate([page.vectors for page in pages])
    assert vectors.tolist() == [content.embedding.vector.tolist() for content in left]
    (images,) = store.pages("image", 3)
    assert images.ids == ("id 1", "id 5")
    assert [store.size("text"), store.size("image")] == [4, 2]


async def test_an_erasure_waits_for_no_more_than_a_page(store: SqliteStore) -> None:
    await asyncio.gather(*(store.put(content_of(f"id {i}", b"%d" % i)) for i in range(10)))
    for pages in (store.pages("text", 4), store.scan(4)):
        first = next(pages)
        written = await store.delete_many(["id 1", "id 7"])
        assert await written.is_overwritten(2)
        await store.put(content_of("id 1", b"1"))
        await store.put(content_of("id 7", b"7"))
        ids = [page.ids if isinstance(page, VectorPage) else [each.id for each in page] for page in (first, *pages)]
        assert len(ids[0]) == 4
        named = [content_id for page in ids for content_id in page]
        assert {*named} == {f"id {i}" for i in range(10)}  # what stays, once; what comes again, as it comes
        assert max(named.count(content_id) for content_id in {*named} - {"id 1", "id 7"}) == 1


async def test_pages_are_read_in_order_without_sorting(store: SqliteStore) -> None:
    plan = await store.database.reader.rows(tuple, "EXPLAIN QUERY PLAN " + PAGE, "text", 7, 3)
    assert plan[0][3] == "SEARCH contents USING INDEX contents_by_type (type=? AND rowid>?)"
    assert not any("TEMP B-TREE" in row[3] for row in plan)


async def test_the_same_bytes_are_named_in_the_order_they_were_first_added(store: SqliteStore) -> None:
    for content_id in ("c", "a", "b"):
        await store.put(content_of(content_id, b"same"))
    await store.put(content_of("d", b"other"))
    await store.put(content_of("e", b"same", "image"))
    await store.put(content_of("c", b"same", user="u"))  # replaced in place: still the first
    assert [content.id for content in await store.same_bytes(digest(b"same"), "text")] == ["c", "a", "b"]
    assert [content.id for content in await store.same_bytes(digest(b"same"), "image")] == ["e"]
    assert await store.same_bytes(digest(b"unknown"), "text") == []
    await asyncio.gather(*(store.put(content_of(f"more {i}", b"same")) for i in range(120)))
    assert len(await store.same_bytes(digest(b"same"), "text")) == 100


async def test_concurrent_puts_share_commits(store: SqliteStore) -> None:
    seen: list[str] = []
    _statements(store, seen)
    await asyncio.gather(*(store.put(content_of(f"id {i}", b"%d" % i)) for i in range(500)))
    assert 1 <= seen.count("COMMIT") <= 5
    assert seen.count("COMMIT") == seen.count("BEGIN IMMEDIATE")
    assert await store.count() == 500


async def test_puts_one_after_the_other_have_a_commit_each(store: SqliteStore) -> None:
    seen: list[str] = []
    _statements(store, seen)
    for i in range(3):
        await store.put(content_of(f"id {i}"))
    assert seen.count("COMMIT") == 3


async def test_a_close_finishes_the_writes_under_way(path: Path) -> None:
    store = SqliteStore(path)
    puts = [asyncio.create_task(store.put(content_of(f"id {i}"))) for i in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*puts)
    store = SqliteStore(path)
    assert await store.count() == 50
    await store.close()


async def test_a_full_disk_is_told_logged_and_gone_when_there_is_room_again(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put(content_of("a"))
    limit = _pragma(store.database.write_connection, "max_page_count")
    store.database.write_connection.execute(
        "PRAGMA max_page_count = 1"
    )  # what SQLite then raises is what a full disk raises
    puts = [store.put(content_of(f"id {i}", b"%d" % i)) for i in range(100)]
    failures = await asyncio.gather(*puts, return_exceptions=True)
    assert {type(failure) for failure in failures} == {StorageFull}
    assert await store.count() == 1  # all of a commit is there, or none
    store.database.write_connection.execute(f"PRAGMA max_page_count = {limit}")
    await store.put(content_of("b"))
    assert await store.count() == 2
    assert "full" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


async def test_a_failure_nobody_foresaw_leaves_no_caller_waiting(store: SqliteStore) -> None:
    # The ids of the product can have no lone surrogate; that SQLite cannot take one serves as the surprise.
    with pytest.raises(StorageUnavailable):
        await asyncio.wait_for(store.put(content_of("\ud800")), 2)
    await asyncio.wait_for(store.put(content_of("a")), 2)
    assert await store.count() == 1


async def test_a_second_process_is_kept_out(store: SqliteStore, path: Path) -> None:
    command = [sys.executable, "-m", "index_sidecar"]
    environment = {**os.environ, "DATA_DIR": str(path.parent), "PORT": "0"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"index_sidecar: cannot start: another sidecar uses {path.parent}: stop it, or set another DATA_DIR"
    )


def _unknown_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def _foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE contents (something_else)")
    connection.close()


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_unknown_version, _foreign_database, _garbage, _folder])
def test_what_is_not_our_store_is_refused_and_left_as_it_is(make: Callable[[Path], None], path: Path) -> None:
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreError, match=str(path)):
        SqliteStore(path)
    assert (path.read_bytes() if path.is_file() else b"") == before
    lock = subprocess.run(["flock", "--nonblock", path.parent / "lock", "true"], check=False)
    assert lock.returncode == 0  # the refused store holds nothing any more


def test_the_refusal_of_another_version_says_which(path: Path) -> None:
    path.parent.mkdir()
    _unknown_version(path)
    with pytest.raises(StoreError, match=r"schema version 99, this program knows 3"):
        SqliteStore(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/data cannot be written .* set DATA_DIR"):
        SqliteStore(tmp_path / "file" / "data" / "contents.sqlite")


def test_a_second_close_closes_nobody_elses_file(runner: asyncio.Runner, path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path)
    runner.run(store.close())
    others = [os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR) for _ in range(8)]  # they take the freed numbers
    runner.run(store.close())
    for other in others:
        os.close(other)
