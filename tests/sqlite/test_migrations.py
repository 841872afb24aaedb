"""A file of an older version comes to the newest as a whole or not at all, and leaves a copy of itself behind."""

from __future__ import annotations

import gzip
import logging
import re
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from index_sidecar.archive.errors import StoreError
from index_sidecar.archive.filters import read_filter
from index_sidecar.archive.metadata import Metadata
from index_sidecar.sqlite import rows
from index_sidecar.sqlite.connection import Schema, open_file
from index_sidecar.sqlite.migrations import Step
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of, plain
from ..support.sidecar import ROOT

# Written by the program when its schema was of that version; id "gone" was deleted again.
VERSION_1 = Path(__file__).with_name("version-1.sqlite.gz")
VERSION_2 = Path(__file__).with_name("version-2.sqlite.gz")  # with the metadata TOLD
VERSION_3 = Path(__file__).with_name("version-3.sqlite.gz")  # with the originals KEPT, the picture's in the folder
HELD = [
    (content_of("a", b"one", user="ann", truncated=True), b"one"),
    (content_of("b/?% 漢", b"two", "image", "ann"), bytes(range(256)) * 12),
    (content_of("c", b"three"), None),
    (content_of("d", b"one", user="bob"), b"one"),
]
TOLD: dict[str, Metadata] = {
    "a": {"title": "Eins 漢", "n": 215250709085334181, "date": "2026-06-10T01:02:03+02:00", "tags": ["x", "y"]},
    "b/?% 漢": {"title": "zwei " * 200, "n": 0.5, "ok": True},
}

KEPT = {"a": b"one", "b/?% 漢": b"two", "c": None, "d": b"one"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "contents.sqlite"
    path.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    return path


async def _is_whole(path: Path) -> None:
    store = SqliteStore(path)
    for content, preview in HELD:
        assert plain(await store.get(content.id)) == plain(content)
        found = await store.preview(content.id)
        assert (found[1] if found else None) == preview
    assert await store.count() == len(HELD)
    await store.put(content_of("e"))
    assert len((await store.delete_many([content.id for content, _ in HELD])).gone) == len(HELD)
    await store.close()


def _note_length(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE contents ADD COLUMN length INTEGER")
    connection.execute("UPDATE contents SET length = length(id)")


def _name_shape(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE shapes (name TEXT) STRICT")
    connection.execute("INSERT INTO shapes SELECT id FROM contents WHERE length = 1")


def _fail(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM contents")
    connection.execute("INSERT INTO nowhere VALUES (1)")


def _open(path: Path, version: int, steps: Mapping[int, Step]) -> None:
    open_file(path, Schema(rows.SCHEMA.statements, version, steps)).close()


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def test_a_file_of_version_1_opens_whole(path: Path) -> None:
    await _is_whole(path)


async def test_a_file_of_version_2_opens_whole_with_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "contents.sqlite"
    path.write_bytes(gzip.decompress(VERSION_2.read_bytes()))
    store = SqliteStore(path)
    for content, _ in HELD:
        stored = await store.get(content.id)
        assert stored is not None
        assert stored.metadata == TOLD.get(content.id, {})
    for condition, ids in (
        ('{"key": "n", "match": {"value": 215250709085334181}}', ["a"]),
        ('{"key": "date", "range": {"gte": "2026-06-09", "lt": "2026-06-10"}}', ["a"]),
        ('{"key": "tags", "match": {"any": ["y"]}}', ["a"]),
        ('{"key": "ok", "match": {"value": true}}', ["b/?% 漢"]),
        ('{"key": "n", "range": {"lt": 1}}', ["b/?% 漢"]),
        ('{"key": "title", "match": {"value": "gone"}}', []),
    ):
        page = await store.page(None, None, 10, None, read_filter(f'{{"must": [{condition}]}}'))
        assert [entry.id for entry in page.contents] == ids
    await store.close()
    await _is_whole(path)


async def test_an_archive_from_before_originals_has_none_and_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "contents.sqlite"
    path.write_bytes(gzip.decompress(VERSION_2.read_bytes()))
    store = SqliteStore(path)
    for content, preview in HELD:
        assert await store.originals.lacks(content.id)
        assert await store.originals.open(content.id) is None
        await store.originals.give(content, KEPT[content.id] or b"three")
        found = await store.originals.open(content.id)
        assert found is not None
        assert await found[1].read(0, 100) == (KEPT[content.id] or b"three")
        found[1].close()
        shown = await store.preview(content.id)
        assert (shown[1] if shown else None) == preview
    await store.close()


async def test_a_file_of_version_3_opens_whole_with_its_originals(tmp_path: Path) -> None:
    path = tmp_path / "contents.sqlite"
    path.write_bytes(gzip.decompress(VERSION_3.read_bytes()))
    picture = HELD[1][0].sha256.hex()
    (tmp_path / "originals" / picture[:2]).mkdir(parents=True)
    (tmp_path / "originals" / picture[:2] / picture).write_bytes(b"two")
    store = SqliteStore(path)
    for content_id, original in KEPT.items():
        found = await store.originals.open(content_id)
        assert (found is None) == (original is None)
        if found is not None:
            assert await found[1].read(0, 100) == original
            found[1].close()
    await store.close()
    await _is_whole(path)


async def test_steps_lead_from_version_to_version(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _open(path, 3, {1: _note_length, 2: _name_shape})
    assert _rows(path, "PRAGMA user_version") == [(3,)]
    assert _rows(path, "SELECT name FROM shapes ORDER BY name") == [("a",), ("c",), ("d",)]
    (line,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    copy = path.with_name("contents.sqlite.v1")
    assert f"from schema version 1 to 3. {copy} is a copy of it as it was: erase it" in line
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    caplog.clear()
    _open(path, 3, {1: _note_length, 2: _name_shape})
    assert not caplog.records
    (path.parent / "restored").mkdir()
    await _is_whole(copy.rename(path.parent / "restored" / path.name))


async def test_what_the_log_held_is_in_the_copy(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:  # as a crash leaves it: not yet in the file
        connection.execute("UPDATE contents SET user = 'eve' WHERE id = 'c'")
        connection.commit()
        _open(path, 2, {1: _note_length})
    assert _rows(path.with_name("contents.sqlite.v1"), "SELECT user FROM contents WHERE id = 'c'") == [("eve",)]


async def test_a_step_that_fails_changes_nothing(path: Path) -> None:
    for _ in range(2):  # nor does it stand in the way of the next try
        with pytest.raises(
            StoreError, match=r"from schema version 1 to 3 \(no such table: nowhere\); nothing was chang"
        ):
            _open(path, 3, {1: _note_length, 2: _fail})
    assert not list(path.parent.glob("*.unfinished"))
    await _is_whole(path)


def test_a_file_nobody_knows_a_way_from_is_refused(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StoreError, match="has schema version 1, this program knows 3"):
        _open(path, 3, {2: _name_shape})
    assert not path.with_name("contents.sqlite.v1").exists()
    assert _rows(path, "PRAGMA user_version") == [(1,)]
    assert len(path.read_bytes()) == len(before)


async def test_no_room_for_a_copy_is_told_before_anything_changes(path: Path) -> None:
    path.with_name("contents.sqlite.v1").mkdir()  # the copy finds no place
    (path.with_name("contents.sqlite.v1") / "file").touch()
    with pytest.raises(StoreError, match="needs room for a copy of itself"):
        _open(path, 2, {1: _note_length})
    shutil.rmtree(path.with_name("contents.sqlite.v1"))
    await _is_whole(path)


async def test_an_upgrade_is_rolled_back_by_the_commands_of_the_operators_page(path: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path = path.rename(data / path.name)
    store = SqliteStore(path)
    await store.put(content_of("e"))
    await store.close()
    (data / "contents.sqlite-wal").touch()  # as a sidecar that was killed leaves one
    section = (ROOT / "docs" / "operating.md").read_text().split("## Upgrade and roll-back")[1].split("\n## ")[0]
    (commands,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    subprocess.run(["bash", "-eu", "-c", commands], cwd=tmp_path, check=True)
    assert _rows(path, "PRAGMA user_version") == [(1,)]
    assert _rows(path, "SELECT id FROM contents ORDER BY id") == [(content.id,) for content, _ in HELD]
    assert {each.name for each in (data / "newer").iterdir()} == {"contents.sqlite", "contents.sqlite-wal"}
    assert {each.name for each in data.iterdir()} == {"contents.sqlite", "lock", "newer"}
