"""The store whose vectors an index is filled with, and an archive that has a snapshot."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from index_sidecar.sqlite.store import SqliteStore

from ..support.snapshots import ROWS, Archive
from ..support.vectors import built, contents_of


@pytest.fixture
def store(runner: asyncio.Runner, tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "data" / "contents.sqlite")
    yield store
    runner.run(store.close())


@pytest.fixture
def built_archive(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Archive]:
    """An open archive of so many images whose index was built in this process."""
    archive = Archive(tmp_path / "data")
    runner.run(_fill(archive))
    yield archive
    runner.run(archive.close())


async def _fill(archive: Archive) -> None:
    await archive.open()
    await archive.upsert(contents_of(ROWS))
    await built(archive.index)


@pytest.fixture(scope="session")
def snapshot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The closed one of so many images, with its snapshot: to be copied."""
    archive = Archive(tmp_path_factory.mktemp("snapshot") / "data")

    async def make() -> None:
        await _fill(archive)
        await archive.close()

    asyncio.run(make())
    return archive.folder


@pytest.fixture
def archive(runner: asyncio.Runner, snapshot_folder: Path, tmp_path: Path) -> Iterator[Archive]:
    """The same, open, its index loaded with its snapshot."""
    archive = Archive(tmp_path / "data")
    shutil.copytree(snapshot_folder, archive.folder)
    archive.contents = {content.id: content for content in contents_of(ROWS)}
    runner.run(archive.open())
    yield archive
    runner.run(archive.close())
