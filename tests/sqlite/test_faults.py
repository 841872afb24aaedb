"""What is wrong with the disk: told to callers in time, to the log once, and over when it is over."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import stat
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from index_sidecar.archive.errors import ModelMismatch, StorageFull, StorageUnavailable
from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of, plain
from ..support.fake_torchserve import FINGERPRINT
from ..support.sidecar import running

OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"


async def _fill(store: SqliteStore) -> tuple[list[str], set[type[Exception]]]:
    """Put until the disk is full; the ids that were acknowledged, and what the others were told."""
    kept: list[str] = []
    failures: set[type[Exception]] = set()
    numbers = random.Random(0)
    for step in range(60):
        contents = [content_of(f"id {step} {i}", b"%d %d" % (step, i)) for i in range(10)]
        puts = (store.put(content, numbers.randbytes(6000)) for content in contents)
        for content, result in zip(contents, await asyncio.gather(*puts, return_exceptions=True), strict=True):
            if isinstance(result, Exception):
                failures.add(type(result))
            else:
                kept.append(content.id)
    return kept, failures


async def test_a_full_disk_loses_nothing_and_heals(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "index_sidecar.sqlite")
    store = SqliteStore(small_disk / "data" / "contents.sqlite")
    kept, failures = await _fill(store)
    assert kept
    assert failures == {StorageFull}
    assert sorted(content.id for content in await store.get_many(kept)) == sorted(kept)
    await store.check()  # what is there can be read
    writes = [record for record in caplog.records if "writes fail" in record.getMessage()]
    assert [record.getMessage().endswith("writes fail: the disk is full") for record in writes] == [True]
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    await store.put(content_of("there is room"))
    written = await store.delete(kept[0])
    assert await written.is_overwritten(10)
    assert "writes succeed again" in caplog.text
    await store.close()
    with closing(sqlite3.connect(small_disk / "data" / "contents.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM contents").fetchone() == (len(kept),)


async def test_over_http_a_full_disk_is_507(small_disk: Path, settings: Settings) -> None:
    async with running(replace(settings, data_dir=small_disk / "data")) as sidecar:
        replies = [await sidecar.add(f"id {i}", b"%d " % i * 500) for i in range(600)]
        errors = {reply.error for reply in replies if reply.status != 201}
        assert errors == {(507, "storage_full")}
        assert (await sidecar.call("GET", "/ready")).status == 200  # searches are served
        (added,) = await sidecar.found(b"0 " * 500, k="1")
        assert added == "id 0"


async def test_one_bad_write_fails_alone(path: Path) -> None:
    store = SqliteStore(path)
    await store.put(content_of("a"))
    puts = [store.put(content_of(f"id {i}")) for i in range(20)]
    puts[5:5] = [store.put(replace(content_of("short digest"), sha256=b"1")), store.put(content_of("\ud800"))]
    puts[9:9] = [store.put(content_of("other", fingerprint=OTHER_MODEL))]
    results = await asyncio.gather(*puts, return_exceptions=True)
    failed = [type(result) for result in results if isinstance(result, Exception)]
    assert failed == [StorageUnavailable, StorageUnavailable, ModelMismatch]
    assert await store.count() == 21
    await store.close()


async def test_a_first_put_that_fails_pins_no_model(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(StorageUnavailable):
        await store.put(content_of("\ud800", fingerprint=OTHER_MODEL))
    assert await store.fingerprint() is None
    first = [store.put(content_of(f"id {i}", fingerprint=(FINGERPRINT, OTHER_MODEL)[i % 2])) for i in range(4)]
    results = await asyncio.gather(*first, return_exceptions=True)  # nobody knew a model when they came
    assert [isinstance(result, ModelMismatch) for result in results] == [False, True] * 2
    assert await store.fingerprint() == FINGERPRINT
    await store.close()


async def test_a_foreign_writer_delays_writes_for_a_while_only(path: Path) -> None:
    store = SqliteStore(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable):
            await asyncio.wait_for(store.put(content_of("a")), 4)
        putting = asyncio.create_task(store.put(content_of("b")))
        await asyncio.sleep(0.2)
        writer.execute("COMMIT")
        await putting
    assert await store.get("a") is None
    await store.close()


async def test_adds_go_on_at_their_pace_while_an_erasure_waits(path: Path) -> None:
    store = SqliteStore(path)
    await store.put(content_of("a"))
    usual = max(0.02, 3 * median(await _puts_s(store, "alone", 0.5)))  # on a busy machine a put alone takes as long
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM contents").fetchall()
        await store.delete("a")
        # Another process's fsync can hold a put up, too, but not every time: the best of a few tries is ours.
        tries: list[list[float]] = []
        while not tries or ((max(tries[-1]) >= 0.3 or median(tries[-1]) >= usual) and len(tries) < 6):
            tries.append(await _puts_s(store, f"try {len(tries)}", 1.5))  # over several tries to overwrite
        assert store.erasures_due() == 1
        assert median(tries[-1]) < usual
        assert max(tries[-1]) < 0.3, [max(each) for each in tries]
    await store.close()


async def _puts_s(store: SqliteStore, name: str, for_s: float) -> list[float]:
    """What each of the puts took that came one after the other for so long."""
    seconds: list[float] = []
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        started = time.monotonic()
        await store.put(content_of(f"{name} {len(seconds)}", b"%d" % len(seconds)))
        seconds.append(time.monotonic() - started)
    return seconds


async def test_a_read_ends_in_time(path: Path) -> None:
    store = SqliteStore(path, read_limit_s=0.3)
    forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    started = time.process_time()  # a read that went on behind the answer would go on computing
    rows = store.database.reader.rows
    reads = [rows(tuple, forever), rows(tuple, forever), store.get("a")]  # the later ones wait for the first
    results = await asyncio.wait_for(asyncio.gather(*reads, return_exceptions=True), 20)
    assert [type(result) for result in results[:2]] == [StorageUnavailable] * 2
    assert results[2] is None or isinstance(results[2], StorageUnavailable)  # its turn comes as its time ends
    assert time.process_time() - started < 1
    assert await store.get("a") is None  # and the thread is free again
    await store.close()


async def test_what_it_writes_is_its_owners_alone(path: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        await store.put(content_of("a"))
        modes = {each.name: oct(stat.S_IMODE(each.stat().st_mode)) for each in path.parent.iterdir()}
        assert modes == dict.fromkeys(
            ("contents.sqlite", "contents.sqlite-shm", "contents.sqlite-wal", "lock"), oct(0o600)
        )
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        await store.close()
        # Files of an earlier version become private, a folder that was there stays as it is.
        path.chmod(0o644)
        (path.parent / "lock").chmod(0o644)
        path.parent.chmod(0o755)
        store = SqliteStore(path)
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
        assert plain(await store.get("a")) == plain(content_of("a"))
        await store.close()
    finally:
        os.umask(before)
