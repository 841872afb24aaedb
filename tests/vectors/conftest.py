"""The store whose vectors an index is filled with, and an archive that has a snapshot."""

from __future__ import annotations

import asyncio
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
def archive(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Archive]:
    """An open archive of so many images with a snapshot of them."""
    archive = Archive(tmp_path / "data")

    async def fill() -> None:
        await archive.open()
        await archive.upsert(contents_of(ROWS))
        await built(archive.index)

    runner.run(fill())
    yield archive
    runner.run(archive.close())
