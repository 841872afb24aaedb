"""A restore puts a whole backup into the archive's place or changes nothing, wherever it is cut off."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from index_sidecar.archive.errors import StoreError
from index_sidecar.sqlite import rows
from index_sidecar.sqlite.backup import Backups
from index_sidecar.sqlite.disk import size_and_digest
from index_sidecar.sqlite.manifest import BackupError, Manifest
from index_sidecar.sqlite.restore import restore
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of
from ..support.sidecar import ROOT
from .test_backup import dump
from .test_migrations import HELD, VERSION_1


@pytest.fixture
def backups(tmp_path: Path) -> Backups:
    return Backups(tmp_path / "first" / "backups")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "first" / "data" / "contents.sqlite"


async def _live_on(path: Path, backups: Backups) -> Manifest:
    """An archive with a backup, more in its log since, and as a kill leaves it."""
    store = SqliteStore(path)
    for number in range(4):
        await store.put(content_of(f"c{number}", b"%d" % number, user="ann"), None, b"a text" * 20)
    made = await asyncio.to_thread(backups.make, path, 0)
    assert await (await store.delete("c0")).is_overwritten(60)  # then nothing empties the log any more
    await store.put(content_of("since", b"since"))
    killed = path.parent.with_name("killed")
    shutil.copytree(path.parent, killed)
    await store.close()
    shutil.rmtree(path.parent)
    killed.rename(path.parent)
    assert path.with_name("contents.sqlite-wal").stat().st_size
    (path.parent / "index-text.snapshot").write_bytes(b"of the old archive")
    return made


@pytest.fixture
def made(path: Path, backups: Backups) -> Manifest:
    return asyncio.run(_live_on(path, backups))


def _all_in(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.rglob("*") if each.is_file() and each.name != "lock"}


async def _opened(path: Path) -> list[str]:
    """All rows, once a start has done what it has to do."""
    await SqliteStore(path).close()
    return dump(path)


async def test_what_is_restored_is_what_was_backed_up(made: Manifest, path: Path, backups: Backups) -> None:
    assert restore(path, rows.SCHEMA, backups, made.name) == made
    assert {each.name for each in path.parent.iterdir()} == {"contents.sqlite", "lock"}
    assert await _opened(path) == dump(backups.path(made.name))
    store = SqliteStore(path)
    assert await store.get("since") is None
    assert await store.get("c0")
    await store.put(content_of("after"))
    await store.close()


async def test_an_archive_that_is_gone_is_restored(made: Manifest, path: Path, backups: Backups) -> None:
    shutil.rmtree(path.parent)
    restore(path, rows.SCHEMA, backups, made.name)
    assert await _opened(path) == dump(backups.path(made.name))


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_backup_is_refused_before_anything_is_replaced(
    made: Manifest, path: Path, backups: Backups, cut: bool
) -> None:
    before = _all_in(path.parent)
    whole = backups.path(made.name).read_bytes()
    for place in (0, 30, len(whole) // 2, len(whole) - 1):
        turned = bytes([whole[place] ^ 16]) + whole[place + 1 :]
        backups.path(made.name).write_bytes(whole[:place] + (b"" if cut else turned))
        with pytest.raises(BackupError, match="not as it was written"):
            restore(path, rows.SCHEMA, backups, made.name)
        assert _all_in(path.parent) == before


def test_a_newer_schema_is_refused_before_anything_is_touched(made: Manifest, path: Path, backups: Backups) -> None:
    before = _all_in(path.parent)
    newer = rows.SCHEMA.version + 1
    with closing(sqlite3.connect(backups.path(made.name))) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    size, digest = size_and_digest(backups.path(made.name))
    told = msgspec.structs.replace(made, schema_version=newer, size_bytes=size, sha256=digest)
    (backups.folder / f"{made.name}.json").write_bytes(told.rendered())
    with pytest.raises(BackupError, match="update it"):
        restore(path, rows.SCHEMA, backups, made.name)
    assert _all_in(path.parent) == before


async def test_an_older_schema_is_brought_to_this_programs_on_a_copy(path: Path, backups: Backups) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    made = backups.make(path, 0)
    assert made.schema_version == 1
    path.unlink()
    restore(path, rows.SCHEMA, backups, made.name)
    assert {each.name for each in path.parent.iterdir()} == {"contents.sqlite", "lock"}
    assert backups.verify(made.name) == made
    store = SqliteStore(path)
    assert await store.count() == len(HELD)
    await store.close()


async def test_beside_a_running_sidecar_nothing_is_restored(made: Manifest, path: Path, backups: Backups) -> None:
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="another sidecar uses"):
        restore(path, rows.SCHEMA, backups, made.name)
    assert await store.get("since")
    await store.close()


def test_while_a_backup_is_made_none_is_restored(made: Manifest, path: Path, backups: Backups) -> None:
    before = _all_in(path.parent)
    with backups.alone(), pytest.raises(BackupError, match="another backup or restore uses"):
        restore(path, rows.SCHEMA, backups, made.name)
    assert _all_in(path.parent) == before


def test_while_a_restore_is_unfinished_no_backup_is_made(made: Manifest, path: Path, backups: Backups) -> None:
    (path.parent / "restoring").mkdir()
    (path.parent / "restoring" / "ready").touch()
    with pytest.raises(BackupError, match="a restore was cut off"):
        backups.make(path, 0)
    assert backups.names() == [made.name]


async def test_wherever_a_restore_is_killed_a_start_has_one_of_the_two_states(
    made: Manifest, path: Path, backups: Backups, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.support.dying_restore", str(tmp_path), made.name, "4"]
    await asyncio.to_thread(subprocess.run, command, cwd=ROOT, timeout=300, check=True)
    new, old = dump(backups.path(made.name)), dump(path)
    assert old != new
    found = list[bool]()
    for number in sorted(int(each.name) for each in tmp_path.iterdir() if each.name.isdigit()):
        here = tmp_path / str(number) / "data" / "contents.sqlite"
        state = await _opened(here)
        assert state in (old, new), number
        found.append(state == new)
        assert not (here.parent / "restoring").exists()
    assert found == sorted(found)  # from one call on it is the new one
    assert found[0] is False
    assert found.count(True) > 1
    restore(tmp_path / "0" / "data" / "contents.sqlite", rows.SCHEMA, backups, made.name)
    assert await _opened(tmp_path / "0" / "data" / "contents.sqlite") == new
