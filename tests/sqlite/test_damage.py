"""Damaged, lost and read-only files: told to callers, to the log once, and at the start with the way out."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from index_sidecar.archive.errors import ContentError, StorageUnavailable, StoreError
from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of, plain
from ..support.sidecar import ROOT, running


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


@pytest.mark.parametrize("first", [0, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 3)), 12, 40])
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
