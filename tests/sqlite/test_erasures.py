"""What is erased stays erased when an older file comes into the archive's place: a backup, or what a crash left."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from index_sidecar.archive.errors import StorageUnavailable, StoreError
from index_sidecar.archive.writes import Writes
from index_sidecar.sqlite import rows
from index_sidecar.sqlite.backup import Backups
from index_sidecar.sqlite.restore import restore
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex

from ..support.contents import content_of
from ..support.erasing import left_of, nth_content, nth_text, overwritten


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@contextlib.asynccontextmanager
async def _opened(path: Path, folder: Path | None) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, backup_dir=folder)
    try:
        yield store
    finally:
        await store.close()


async def _fill(path: Path, folder: Path | None, count: int = 40) -> None:
    async with _opened(path, folder) as store:
        await asyncio.gather(*(store.put(nth_content(n), nth_text(n), nth_text(n)) for n in range(count)))


def _ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {content_id for (content_id,) in connection.execute("SELECT id FROM contents")}


async def _restored(path: Path, backup: bytes, folder: Path) -> set[str]:
    """The ids that a start has on this file."""
    path.write_bytes(backup)
    async with _opened(path, folder):
        return _ids(path)


async def test_what_was_erased_since_is_not_found_again_and_its_bytes_are_in_no_file(path: Path, folder: Path) -> None:
    await _fill(path, folder)
    texts = [nth_text(n) for n in range(40)]
    async with _opened(path, folder) as store:
        await store.put(content_of("bob's", b"of bob", user="bob"))
        await store.delete("id 3")
        await store.put(nth_content(3), nth_text(3))  # added again on purpose, before the backup
        made = await asyncio.to_thread(Backups(folder).make, path, 0)
        await overwritten([await store.delete("id 7"), await store.delete_many(["id 8", "id 9"])])
        await store.put(nth_content(9), nth_text(9))  # again, after it: what the backup holds of it goes all the same
        await store.put(content_of("bob's", b"of eve", user="eve"))  # bob has nothing left that could be deleted
        index = FaissIndex(path.parent, "float32", 200_000, 0.95)
        await index.load(store)
        assert (await Writes(store, index, lambda: None, limit_s=60).delete_user("bob"))[0] == 0
        await index.close()
    journal = (folder / "erasures").read_bytes()
    assert not [name for name in (b"id 7", b"bob") if name in journal]
    restore(path, rows.SCHEMA, Backups(folder), made.name)
    async with _opened(path, folder):
        assert _ids(path) == {f"id {n}" for n in range(40) if n not in (7, 8, 9)}
    assert left_of(path.parent, texts) == [text for n, text in enumerate(texts) if n not in (7, 8, 9)]
    async with _opened(path, folder) as store:  # from here on it is an archive as any other
        await store.put(nth_content(7), nth_text(7))
    async with _opened(path, folder) as store:
        assert await store.get("id 7") is not None
        later = await asyncio.to_thread(Backups(folder).make, path, 0)
    restore(path, rows.SCHEMA, Backups(folder), later.name)
    async with _opened(path, folder):
        assert _ids(path) == {f"id {n}" for n in range(40) if n not in (8, 9)}


async def test_an_erasure_that_fails_is_not_heard_of_and_one_that_a_crash_cut_off_is_done(
    path: Path, folder: Path
) -> None:
    await _fill(path, folder, 5)
    before = path.read_bytes()
    async with _opened(path, folder) as store:
        connection = store.database.write_connection
        connection.set_authorizer(lambda action, what, *_: sqlite3.SQLITE_DENY if what == "COMMIT" else 0)
        with pytest.raises(StorageUnavailable):
            await store.delete("id 1")
        assert not (folder / "erasures").read_bytes()
        connection.set_authorizer(None)
        await asyncio.gather(store.delete("id 2"), store.delete("id 3"), store.delete("nothing"))
    assert len((folder / "erasures").read_bytes()) == 2 * 48
    with (folder / "erasures").open("ab") as file:
        file.write(b"torn")
    # The journal is on disk before the commit: so the file as it was is also what a crash in between leaves.
    assert await _restored(path, before, folder) == {"id 0", "id 1", "id 4"}
    async with _opened(path, folder) as store:
        await store.delete("id 4")
    assert await _restored(path, before, folder) == {"id 0", "id 1"}


async def test_a_damaged_record_costs_no_other(path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    await _fill(path, folder, 4)
    before = path.read_bytes()
    async with _opened(path, folder) as store:
        for number in range(3):
            await store.delete(f"id {number}")
    journal = bytearray((folder / "erasures").read_bytes())
    journal[60] ^= 1
    (folder / "erasures").write_bytes(journal)
    assert await _restored(path, before, folder) == {"id 1", "id 3"}
    assert "1 records of" in caplog.text


async def test_an_archive_that_knows_more_than_the_journal_says_so(
    path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await _fill(path, folder, 3)
    async with _opened(path, folder) as store:
        await store.delete("id 0")
    async with _opened(path, folder.with_name("new")) as store:  # another folder of backups, with no journal yet
        assert await store.count() == 2
        backup = await asyncio.to_thread(Backups(store.folder.parent / "new").make, path, 0)
        await store.delete("id 1")
    assert "ends before the archive's last erasure (0 of 1)" in caplog.text
    restored = Backups(folder.with_name("new")).path(backup.name).read_bytes()
    assert await _restored(path, restored, folder.with_name("new")) == {"id 2"}


async def test_the_journal_is_one_archives_and_its_key_must_not_be_lost(path: Path, folder: Path) -> None:
    await _fill(path, folder, 2)
    async with _opened(path, folder) as store:
        await store.delete("id 0")
        with pytest.raises(StoreError, match="another archive's"):
            SqliteStore(path.parent / "second" / "contents.sqlite", backup_dir=folder)
    (folder / "erasures.key").unlink()
    with pytest.raises(StoreError, match=r"erasures\.key is lost"):
        SqliteStore(path, backup_dir=folder)


async def test_without_a_folder_of_backups_there_is_no_journal(path: Path) -> None:
    await _fill(path, None, 2)
    async with _opened(path, None) as store:
        await store.delete("id 0")
    assert {each.name for each in path.parent.iterdir()} == {"contents.sqlite", "lock"}
