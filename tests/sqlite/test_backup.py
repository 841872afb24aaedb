"""A backup is the archive at one commit, whatever is written meanwhile, and is refused once a bit of it has changed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from index_sidecar.sqlite import rows
from index_sidecar.sqlite.backup import Backups
from index_sidecar.sqlite.manifest import BackupError, Manifest
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of
from ..support.fake_torchserve import FINGERPRINT
from ..support.sidecar import ROOT

TEXT = b"a text that is kept, " * 30


@pytest.fixture
def backups(tmp_path: Path) -> Backups:
    return Backups(tmp_path / "backups")


def dump(path: Path) -> list[str]:
    """All rows of all tables."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


async def _fill(path: Path, count: int = 3) -> None:
    store = SqliteStore(path)
    for number in range(count):
        await store.put(content_of(f"c{number}", b"%d" % number, user="ann"), b"preview", TEXT)
    await store.close()


@pytest.fixture
def made(path: Path, backups: Backups) -> Manifest:
    asyncio.run(_fill(path))
    return backups.make(path, 0)


async def test_a_backup_is_the_archive_at_a_commit_between_its_start_and_its_end(path: Path, backups: Backups) -> None:
    await _fill(path, 60)
    slow = Backups(backups.folder, step_pages=4)
    store = SqliteStore(path)
    states = [dump(path)]
    done, more = threading.Event(), threading.Semaphore(0)

    async def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            await store.put(content_of(f"c{number % 80}", b"new %d" % number, user="bob"), None, TEXT + b"%d" % number)
            if not number % 3:
                await store.delete(f"c{number * 7 % 80}")
                states.append(dump(path))
            states.append(dump(path))
            more.release()

    steps = []

    def wait(left: int, total: int) -> None:
        steps.append(left)
        assert more.acquire(timeout=60), "a writer waits for the backup"  # at least one more write a step

    writing = asyncio.create_task(write())
    while len(states) < 5:
        await asyncio.sleep(0)
    before = len(states) - 1
    while more.acquire(blocking=False):
        pass
    try:
        manifest = await asyncio.to_thread(slow.make, path, 0, wait)
    finally:
        done.set()
        await writing
    await store.close()
    assert len(steps) > 5
    assert steps == sorted(steps, reverse=True)  # it never starts again
    assert dump(backups.path(manifest.name)) in states[before:]
    assert dump(backups.path(manifest.name)) != states[-1]
    assert backups.verify(manifest.name) == manifest


async def test_a_manifest_tells_what_is_in_a_backup(made: Manifest, backups: Backups, path: Path) -> None:
    assert backups.names() == [made.name]
    assert (made.contents, made.fingerprint) == ({"text": 3, "image": 0}, FINGERPRINT)
    assert (made.schema_version, made.size_bytes) == (rows.SCHEMA.version, backups.path(made.name).stat().st_size)
    assert dump(backups.path(made.name)) == dump(path)
    assert {stat.S_IMODE(each.stat().st_mode) for each in backups.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(backups.folder.stat().st_mode) == 0o700


def _places(size: int) -> Iterator[int]:
    yield from (0, 18, 100, size // 3, size // 2, size - 1)


@pytest.mark.parametrize("kind", ["sqlite", "json"])
def test_a_backup_with_one_bit_turned_or_cut_anywhere_is_refused(made: Manifest, backups: Backups, kind: str) -> None:
    path = backups.folder / f"{made.name}.{kind}"
    whole = path.read_bytes()
    for place in _places(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BackupError):
            backups.verify(made.name)
        path.write_bytes(whole[:place])
        with pytest.raises(BackupError):
            backups.verify(made.name)
    path.write_bytes(whole + b"\n")
    with pytest.raises(BackupError):
        backups.verify(made.name)
    path.write_bytes(whole)
    assert backups.verify(made.name) == made
    path.unlink()
    with pytest.raises(BackupError, match="is not there"):
        backups.verify(made.name)


@pytest.mark.parametrize("name", ["", "../contents", "20261124T021500.123Z.sqlite", "/etc/passwd"])
def test_only_names_of_backups_are_names(backups: Backups, name: str) -> None:
    with pytest.raises(BackupError, match="no name of a backup"):
        backups.verify(name)


async def test_the_newest_are_kept(path: Path, backups: Backups) -> None:
    await _fill(path)
    names = [backups.make(path, 0).name for _ in range(4)]
    assert backups.names() == names
    newest = backups.make(path, 2).name
    assert backups.names() == [names[-1], newest]
    assert {each.name for each in backups.folder.glob("*.sqlite")} == {f"{names[-1]}.sqlite", f"{newest}.sqlite"}
    last = backups.make(path, 1).name
    assert backups.names() == [last]


async def test_a_damaged_archive_is_not_backed_up(path: Path, backups: Backups) -> None:
    await _fill(path, 60)
    kept = backups.make(path, 1)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 32768] = b"\xff" * 32768
    path.write_bytes(data)
    with pytest.raises(BackupError):
        backups.make(path, 1)
    assert backups.verify(kept.name) == kept
    assert sorted(each.suffix for each in backups.folder.iterdir()) == [".json", ".lock", ".sqlite"]


def test_where_there_is_no_archive_none_is_made(path: Path, backups: Backups) -> None:
    with pytest.raises(BackupError, match="set DATA_DIR"):
        backups.make(path, 1)
    assert not path.parent.exists()


async def test_a_full_disk_is_told_before_anything_is_copied(path: Path, small_disk: Path) -> None:
    await _fill(path)
    backups = Backups(small_disk / "backups")
    with pytest.raises(BackupError, match="has no room"):
        backups.make(path, 1)
    assert [each.name for each in backups.folder.iterdir()] == ["backup.lock"]


def _run(path: Path, backups: Backups, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATA_DIR": str(path.parent), "BACKUP_DIR": str(backups.folder)}
    command = [sys.executable, "-m", "index_sidecar", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


async def test_the_commands_work_beside_an_open_archive(path: Path, backups: Backups) -> None:
    await _fill(path)
    store = SqliteStore(path)
    first = backups.make(path, 0).name
    done = await asyncio.to_thread(_run, path, backups, "backup")
    assert done.returncode == 0, done.stderr
    name, _, told = done.stdout.partition(": ")
    assert told.startswith("0 image, 3 text; ")
    await store.put(content_of("later"))
    await store.close()
    assert backups.names() == [first, name]
    backups.path(first).write_bytes(b"")
    listed = _run(path, backups, "verify")
    assert listed.returncode == 1
    assert [line.split(": ")[0] for line in listed.stdout.splitlines()] == [first, name]
    assert "was written" in listed.stdout.splitlines()[0]
    assert "1 of 2 backups cannot be used" in listed.stderr


def test_a_killed_backup_leaves_nothing_and_two_are_never_made_at_once(
    made: Manifest, path: Path, backups: Backups
) -> None:
    """The child stops amid its copy, and says so; it is killed there."""
    lines = (
        "import sys, time; from pathlib import Path; from index_sidecar.sqlite.backup import Backups",
        "stop = lambda left, total: (print('amid', flush=True), time.sleep(600))",
        "Backups(Path(sys.argv[1]), 1).make(Path(sys.argv[2]), 0, stop)",
    )
    command = [sys.executable, "-c", "\n".join(lines), str(backups.folder), str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "amid\n"
            with pytest.raises(BackupError, match="another backup or restore uses"):
                backups.make(path, 0)
        finally:
            child.kill()
    assert list(backups.folder.glob("*.unfinished"))
    assert backups.names() == [made.name]
    second = backups.make(path, 0).name
    assert not list(backups.folder.glob("*.unfinished*"))
    assert backups.names() == [made.name, second]
    assert backups.verify(made.name) == made
