"""Originals in the store: whatever happens, each row has its own, no file is nobody's, and nothing erased is left."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from index_sidecar.archive.content import digest
from index_sidecar.archive.errors import ModelMismatch, NotFound, StorageFull
from index_sidecar.sqlite.files import OriginalFiles
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of
from ..support.dying import PICTURES, STEPS, TEXT, bytes_of
from ..support.erasing import on_disk, overwritten
from ..support.sidecar import ROOT

BEGINNINGS = {name: data[:32] for name, data in PICTURES.items()} | {"": zlib.compress(TEXT, 6, -15)[:32]}


async def _original(store: SqliteStore, content_id: str) -> bytes | None:
    found = await store.originals.open(content_id)
    if found is None:
        return None
    _, kept = found
    try:
        return await kept.read(0, kept.size)
    finally:
        kept.close()


async def _settled(store: SqliteStore) -> None:
    async with asyncio.timeout(60):
        while store.erasures_due():
            await asyncio.sleep(0.01)


def _files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "originals").rglob("*") if path.is_file()}


def _held_after(count: int) -> dict[str, str]:
    """Which id holds which bytes after so many steps."""
    held = dict[str, str]()
    for content_id, name in STEPS[:count]:
        held.pop(content_id, None)
        if name is not None:
            held[content_id] = name
    return held


async def _check(folder: Path) -> None:
    """What a death left is whole after the next start: as after the last step that was acknowledged, or the next."""
    acknowledged = folder / "acknowledged"
    count = len(acknowledged.read_bytes().splitlines()) if acknowledged.exists() else 0
    store = SqliteStore(folder / "data" / "contents.sqlite")
    await _settled(store)
    ids = {content_id for content_id, _ in STEPS}
    there = {content_id: await _original(store, content_id) for content_id in ids if await store.get(content_id)}
    possible = [_held_after(each) for each in (count, count + 1)]
    assert there in [{content_id: bytes_of(name) for content_id, name in held.items()} for held in possible]
    pictures = {data for data in PICTURES.values() if data in there.values()}
    assert _files(folder / "data") == {digest(data).hex() for data in pictures}
    disk = on_disk(folder / "data")
    for name, beginning in BEGINNINGS.items():
        assert (beginning in disk) == (bytes_of(name) in there.values()), (folder, name)
    sizes = await store.originals.size_bytes()
    assert sizes["image"] == sum(map(len, pictures))
    assert (sizes["text"] > 0) == (TEXT in there.values())
    await store.close()


async def test_a_death_at_any_moment_leaves_no_row_without_its_original_and_no_orphan(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.dying", str(tmp_path / "deaths")]
    await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=True, timeout=300)
    deaths = sorted((tmp_path / "deaths").iterdir(), key=lambda path: int(path.name))
    assert len(deaths) > 30
    for folder in deaths:
        await _check(folder)


async def test_adds_and_deletes_of_the_same_bytes_at_once_agree_in_the_end(tmp_path: Path) -> None:
    numbers = random.Random(2)
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    pictures = [numbers.randbytes(20_000) for _ in range(3)]
    held: dict[str, bytes] = {}

    async def live(content_id: str) -> None:
        for _ in range(40):
            if numbers.random() < 0.5:
                data = numbers.choice(pictures)
                await store.put(content_of(content_id, data, "image"), None, data)
                held[content_id] = data
                assert await _original(store, content_id) == data
            else:
                await store.delete(content_id)
                held.pop(content_id, None)
                assert await _original(store, content_id) is None

    await asyncio.gather(*(live(f"id {number}") for number in range(12)))
    await _settled(store)
    assert {each: await _original(store, each) for each in held} == held
    async with asyncio.timeout(30):  # a file that lost its last content is looked at when nobody adds it
        while _files(tmp_path / "data") != {digest(data).hex() for data in held.values()}:
            await asyncio.sleep(0.01)
    await overwritten([await store.delete_many(list(held))])
    assert _files(tmp_path / "data") == set()
    assert all(data[:32] not in on_disk(tmp_path / "data") for data in pictures)
    assert await store.originals.size_bytes() == {"text": 0, "image": 0}
    await store.close()


async def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    await store.put(content_of("a"))
    data = os.urandom(1000)
    with pytest.raises(ModelMismatch):
        await store.put(content_of("b", data, "image", fingerprint="clip:other:0:p1"), None, data)
    async with asyncio.timeout(30):
        while _files(tmp_path / "data"):
            await asyncio.sleep(0.01)
    assert data not in on_disk(tmp_path / "data")
    await store.close()


async def test_a_file_that_was_taken_away_is_lacking_until_its_bytes_come_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    store = SqliteStore(folder / "contents.sqlite")
    data = [os.urandom(1000) for _ in range(3)]
    contents = [content_of(f"id {number}", each, "image") for number, each in enumerate(data)]
    for content, each in zip(contents, data, strict=True):
        await store.put(content, None, each)
    (folder / "originals" / digest(data[0]).hex()[:2] / digest(data[0]).hex()).unlink()
    assert await _original(store, "id 0") is None  # while it runs
    assert await store.originals.lacks("id 0")
    await store.close()
    (folder / "originals" / digest(data[1]).hex()[:2] / digest(data[1]).hex()).unlink()
    store = SqliteStore(folder / "contents.sqlite")  # as after a restore without the folder
    await _settled(store)
    assert "1 originals of pictures are not in their folder" in caplog.text
    assert await store.originals.lacks("id 1")
    await store.originals.give(contents[1], data[1])
    assert [await _original(store, f"id {number}") for number in range(3)] == [None, data[1], data[2]]
    await store.originals.give(contents[2], data[2])  # which has it
    await store.originals.give(replace(contents[0], sha256=bytes(32)), b"of other bytes")
    assert await _original(store, "id 0") is None
    assert (await store.originals.size_bytes())["image"] == 2000
    await store.close()


async def test_what_a_death_left_half_written_is_written_anew(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    data = os.urandom(1000)
    name = digest(data).hex()
    (tmp_path / "data" / "originals" / name[:2]).mkdir(parents=True)
    (tmp_path / "data" / "originals" / name[:2] / name).write_bytes(bytes(2000))
    await store.put(content_of("a", data, "image"), None, data)
    assert await _original(store, "a") == data
    await store.close()


async def test_a_file_that_is_being_added_is_erased_by_nobody(tmp_path: Path) -> None:
    files = OriginalFiles(tmp_path / "originals")
    sha256, data = digest(b"data"), b"data"

    async def is_named(_: bytes) -> bool:
        return False

    async with files.held(sha256, data, is_named):
        assert not files.settle(sha256, lambda _: False, lambda _: None)
        assert _files(tmp_path) == {sha256.hex()}
    assert files.settle(sha256, lambda _: False, lambda _: None)
    assert _files(tmp_path) == set()
    files.close()


async def test_an_erased_picture_is_not_read_on(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    data = os.urandom(5000)
    await store.put(content_of("a", data, "image"), None, data)
    found = await store.originals.open("a")
    assert found is not None
    _, kept = found
    assert await kept.read(4000, 9000) == data[4000:]
    await overwritten([await store.delete("a")])
    with pytest.raises(NotFound):
        await kept.read(0, 1000)
    kept.close()
    await store.close()


async def test_a_disk_that_is_nearly_full_takes_no_more_pictures(small_disk: Path) -> None:
    """So that what is small can still be written, and all be erased."""
    store = SqliteStore(small_disk / "data" / "contents.sqlite")
    data = os.urandom(1000)
    with pytest.raises(StorageFull):
        await store.put(content_of("a", data, "image"), None, data)
    await store.put(content_of("a", data, "image"))
    await store.put(content_of("t", TEXT), TEXT[:500], TEXT)
    assert await _original(store, "t") == TEXT
    assert (await store.delete("a")).gone == ["a"]
    async with asyncio.timeout(30):
        while _files(small_disk / "data"):
            await asyncio.sleep(0.01)
    await store.close()


async def test_a_text_is_kept_once_with_its_preview(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    numbers = random.Random(3)
    texts = [b"", b"a", "漢🙂é".encode() * 300, numbers.randbytes(1 << 20).hex().encode()[: 1 << 20], TEXT]
    for number, text in enumerate(texts):
        content = content_of(f"id {number}", text)
        await store.put(content, text[:500], text)
        assert await _original(store, f"id {number}") == text
        found = await store.preview(f"id {number}")
        assert found is not None
        assert found[1].decode() == text.decode()[:500]
    connection = store.database.write_connection
    assert connection.execute("SELECT count(*) FROM previews").fetchone() == (0,)
    await store.put(content_of("later", TEXT), TEXT[:500])
    assert await store.originals.lacks("later")
    await store.originals.give(content_of("later", TEXT), TEXT)
    assert await _original(store, "later") == TEXT
    found = await store.preview("later")
    assert found is not None
    assert found[1] == TEXT[:500]
    used = connection.execute("SELECT count(*) FROM previews WHERE block NOT IN (SELECT block FROM free_previews)")
    assert used.fetchone() == (0,)
    await store.put(content_of("without", TEXT), None, TEXT)  # no preview is wanted: there is none
    assert await store.preview("without") is None
    await overwritten([await store.delete_many([*(f"id {number}" for number in range(5)), "later", "without"])])
    assert (await store.originals.size_bytes())["text"] == 0
    assert BEGINNINGS[""] not in on_disk(tmp_path / "data")
    await store.close()


async def test_an_archive_without_pictures_has_no_folder_and_begins_with_nothing_due(tmp_path: Path) -> None:
    for _ in range(2):
        store = SqliteStore(tmp_path / "data" / "contents.sqlite")
        assert store.erasures_due() == 0
        await store.put(content_of("t", TEXT), None, TEXT)
        await store.close()
    assert not (tmp_path / "data" / "originals").exists()
