"""What is wrong with the disk or the file: told to callers in time, to the log once, and over when it is over."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from index_sidecar.archive.errors import ContentError, ModelMismatch, StorageFull, StorageUnavailable, StoreError
from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore

from ..support import disks
from ..support.contents import content_of, plain
from ..support.fake_torchserve import FINGERPRINT
from ..support.sidecar import ROOT, running

OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "contents.sqlite"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    with disks.small_disk(tmp_path / "disk", "2m") as folder:
        yield folder


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
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM contents").fetchall()
        await store.delete("a")
        seconds: list[float] = []
        until = time.monotonic() + 1.5  # over several tries to overwrite
        while time.monotonic() < until:
            started = time.monotonic()
            await store.put(content_of(f"id {len(seconds)}", b"%d" % len(seconds)))
            seconds.append(time.monotonic() - started)
        assert store.erasures_due() == 1
        assert sorted(seconds)[len(seconds) // 2] < 0.02
        assert max(seconds) < 1  # one fsync may wait for another process's
    await store.close()


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


def _damage(path: Path, first: int) -> None:
    """Overwrite all pages but the first ones, as a bad disk does."""
    with path.open("r+b") as file:
        file.seek(first * 16384)
        while file.tell() < path.stat().st_size:
            file.write(os.urandom(16384))


async def _written(path: Path, count: int = 400) -> None:
    store = SqliteStore(path)
    await asyncio.gather(*(store.put(content_of(f"id {i}", b"%d" % i), b"p" * 3000) for i in range(count)))
    await store.close()


async def test_damage_under_a_running_store_is_told_as_503(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await _written(path)
    store = SqliteStore(path)
    await store.check()
    _damage(path, 20)
    results = await asyncio.gather(*(store.get(f"id {i}") for i in range(400)), return_exceptions=True)
    assert {type(result) for result in results if isinstance(result, BaseException)} == {StorageUnavailable}
    with pytest.raises(StorageUnavailable):
        await store.check()
    with pytest.raises(StorageUnavailable):
        await store.page(None, None, 1000, None)
    puts = await asyncio.gather(*(store.put(content_of(f"id {i}")) for i in range(50)), return_exceptions=True)
    assert all(isinstance(result, ContentError) for result in puts if isinstance(result, BaseException))
    told = [record.getMessage() for record in caplog.records if "reads fail" in record.getMessage()]
    assert 1 <= len(told) == len(set(told)) <= 4  # each kind of it once
    await store.close()


async def test_over_http_a_lost_file_is_no_500_and_everybody_hears_of_it(settings: Settings) -> None:
    path = settings.data_dir / "contents.sqlite"
    async with running(settings) as sidecar:
        await sidecar.add("a", b"one")
        away = path.rename(path.with_name("away"))
        assert (await sidecar.call("GET", "/ready")).error == (503, "storage_unavailable")
        health = await sidecar.call("GET", "/health")
        assert (health.status, health.json["storage"], health.json["ready"]) == (200, "unavailable", False)
        away.rename(path)
        assert (await sidecar.call("GET", "/ready")).status == 200
        await _written_over(path)
        assert (await sidecar.call("GET", "/contents")).error == (503, "storage_unavailable")
        assert (await sidecar.call("GET", "/ready")).error == (503, "storage_unavailable")
        assert await sidecar.found(b"one") == ["a"]  # from memory, and from the model


async def _written_over(path: Path) -> None:
    """Damage all of the file but its first page, when the log is in it; caches are the reader's own 2 MB."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("INSERT INTO meta VALUES ('to make others read anew', '')")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _damage(path, 1)


async def test_a_file_that_vanishes_is_noticed(path: Path) -> None:
    await _written(path, 5)
    store = SqliteStore(path)
    away = path.rename(path.with_name("away"))
    with pytest.raises(StorageUnavailable):
        await store.check()
    path.write_bytes(away.read_bytes())  # another file of the same name is not the one we write to
    with pytest.raises(StorageUnavailable):
        await store.check()
    away.rename(path)
    await store.check()
    await store.close()


@pytest.mark.parametrize("first", [0, 1, 3, 12, 40])
async def test_a_damaged_database_ends_the_start_with_the_way_out(path: Path, settings: Settings, first: int) -> None:
    await _written(path)
    _damage(path, first)
    environment = {**os.environ, "DATA_DIR": str(path.parent), "PORT": "0", "TORCHSERVE_URL": settings.torchserve_url}
    command = [sys.executable, "-m", "index_sidecar"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1, errors.decode()
    assert "Traceback" not in errors.decode()
    assert any(
        "cannot start" in line and "put the newest backup in its place" in line for line in errors.decode().split("\n")
    ), errors.decode()


def test_a_damaged_database_that_opens_is_told_by_those_who_read_it_whole(path: Path) -> None:
    asyncio.run(_written(path))
    store = SqliteStore(path)
    _damage(path, 20)
    for read in (lambda: list(store.scan(100)), lambda: list(store.pages("text", 50))):
        with pytest.raises(StoreError, match=r"cannot be read .* put the newest backup in its place"):
            read()
    asyncio.run(store.close())


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


def test_a_read_only_disk_is_told_in_one_line(small_disk: Path) -> None:
    asyncio.run(_written(small_disk / "data" / "contents.sqlite", 5))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreError, match=r"cannot be written \(.*Read-only.*\): set DATA_DIR") as caught:
        SqliteStore(small_disk / "data" / "contents.sqlite")
    assert "\n" not in str(caught.value)


async def test_a_file_that_becomes_read_only_refuses_writes_and_serves_reads(path: Path) -> None:
    store = SqliteStore(path)
    await store.put(content_of("a"))
    store.database.write_connection.execute("PRAGMA query_only = ON")  # the error is that of a read-only disk
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            await store.put(content_of("b"))
        with pytest.raises(StorageUnavailable):
            await store.delete("a")
    assert plain(await store.get("a")) == plain(content_of("a"))
    store.database.write_connection.execute("PRAGMA query_only = OFF")
    await store.put(content_of("b"))
    assert await store.count() == 2
    await store.close()
