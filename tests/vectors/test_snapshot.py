"""Snapshots: a restart takes from them what is still true, and they are written when it is worth it."""

from __future__ import annotations

import asyncio
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from ..support.snapshots import ROWS, Archive, restart, start
from ..support.vectors import built, contents_of


async def test_a_restart_takes_from_the_snapshot_what_a_build_has_learned(
    built_archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    state = await built_archive.index.state("image")
    assert f"approximate, {ROWS} contents, 0 of them unknown" in await restart(built_archive, caplog)
    assert await built_archive.index.state("image") == state  # nprobe and recall, too


async def test_what_came_after_the_snapshot_is_in_its_nearest_list(
    archive: Archive, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    shutil.copy(archive.file, tmp_path / "old")
    await archive.upsert(contents_of(5, 2))
    await archive.upsert([replace(contents_of(1, 5)[0], id="1 00007")])
    await archive.upsert([replace(archive.contents["1 00008"], user="new owner")])
    await archive.delete("1 00009")
    await archive.close()
    shutil.copy(tmp_path / "old", archive.file)  # as after a crash
    assert f"approximate, {ROWS + 4} contents, 6 of them unknown" in await start(archive, caplog)
    for content_id in ("1 00007", "2 00003", "1 00400"):
        (hit,) = await archive.index.search(archive.contents[content_id].embedding.vector, 1, "image", None)
        assert hit.id == content_id


async def test_a_snapshot_that_lacks_a_tenth_is_written_anew(archive: Archive) -> None:
    before = archive.file.stat().st_ino
    await archive.upsert(contents_of(ROWS // 8, 2))
    async with asyncio.timeout(20):
        while archive.file.stat().st_ino == before or (await archive.index.state("image")).snapshot != "written":
            await asyncio.sleep(0.005)
    assert list(archive.file.parent.glob("*.tmp")) == []
    await archive.check()


async def test_at_an_orderly_end_it_is_written_when_anything_changed(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    await archive.upsert(contents_of(3, 2))
    assert f"{ROWS + 3} contents, 0 of them unknown" in await restart(archive, caplog)
    before = archive.file.stat().st_ino
    await restart(archive, caplog)
    assert archive.file.stat().st_ino == before


async def test_what_a_crash_left_of_one_lends_it_no_mode(archive: Archive) -> None:
    left = archive.file.with_suffix(".tmp")
    left.write_bytes(b"half of it")
    left.chmod(0o644)
    before = archive.file.stat().st_ino
    await archive.upsert(contents_of(100, 7))
    async with asyncio.timeout(10):
        while archive.file.stat().st_ino == before:
            await asyncio.sleep(0.01)
    assert stat.S_IMODE(archive.file.stat().st_mode) == 0o600


async def test_an_old_snapshot_gives_only_what_is_still_true(
    archive: Archive, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    shutil.copy(archive.file, tmp_path / "old")
    await archive.delete("1 00100")
    await archive.upsert([replace(contents_of(1, 5)[0], id="1 00101"), *contents_of(3, 6)])
    await archive.close()
    shutil.copy(tmp_path / "old", archive.file)
    assert f"{ROWS + 2} contents, 4 of them unknown" in await start(archive, caplog)


async def test_the_same_bytes_under_two_ids(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.upsert([replace(archive.contents["1 00100"], id="twin", user="twin")])
    assert f"{ROWS + 1} contents, 0 of them unknown" in await restart(archive, caplog)
    await archive.delete("1 00100")
    assert f"{ROWS} contents, 0 of them unknown" in await restart(archive, caplog)


async def test_a_type_that_is_searched_exactly_has_none(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    archive.exact_rows = ROWS
    assert f"exact, {ROWS} contents" in await start(archive, caplog)
    await restart(archive, caplog)
    assert not archive.file.exists()


async def test_a_recall_that_was_raised_is_looked_at_again(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    archive.recall = 1.1
    assert f"exact, {ROWS} contents" in await start(archive, caplog)
    assert "it reached a recall of" in caplog.text
    async with asyncio.timeout(20):
        while "stays exact" not in caplog.text:
            await asyncio.sleep(0.005)
    await archive.close()
    archive.recall = 0.5
    await start(archive, caplog)
    await built(archive.index)
    await archive.close()
    archive.recall = 0.4
    assert f"approximate, {ROWS} contents, 0 of" in await start(archive, caplog)
