"""An archive of images whose index has a snapshot, opened and closed as the sidecar does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from index_sidecar.archive.content import Content
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex

from .engines import best
from .vectors import neighbourhoods

ROWS = 600


class Archive:
    """A store with its index, opened and closed as the sidecar does."""

    def __init__(self, folder: Path, exact_rows: int = 100, recall: float = 0.9) -> None:
        self.exact_rows = exact_rows
        self.recall = recall
        self.folder = folder
        self.file = folder / "index-image.snapshot"
        self.contents: dict[str, Content] = {}

    async def open(self) -> None:
        self.store = SqliteStore(self.folder / "contents.sqlite")
        self.index = FaissIndex(self.folder, "float32", self.exact_rows, self.recall)
        await self.index.load(self.store)

    async def close(self) -> None:
        await self.index.close()
        await self.store.close()

    async def upsert(self, contents: list[Content]) -> None:
        await asyncio.gather(*(self.store.put(content) for content in contents))
        await self.index.upsert(contents)
        self.contents |= {content.id: content for content in contents}

    async def delete(self, content_id: str) -> None:
        await self.store.delete(content_id)
        await self.index.delete([content_id])
        del self.contents[content_id]

    async def check(self) -> None:
        """The index holds what the store holds, and every content is found by its own vector."""
        assert await self.index.count("image") == len(self.contents)
        for query in neighbourhoods(3, 99):
            hits = await self.index.search(query, 10**4, "image", None)
            true = {hit.id: hit for hit in best(self.contents.values(), query, 10**4, "image", None)}
            assert {hit.id: hit.user for hit in hits} == {each.id: each.user for each in true.values()}
            assert [hit.score for hit in hits] == pytest.approx([true[hit.id].score for hit in hits], abs=2e-4)


async def restart(archive: Archive, caplog: pytest.LogCaptureFixture) -> str:
    await archive.close()
    return await start(archive, caplog)


async def start(archive: Archive, caplog: pytest.LogCaptureFixture) -> str:
    """How the images were loaded."""
    caplog.clear()
    with caplog.at_level("INFO"):
        await archive.open()
    lines = [record.getMessage() for record in caplog.records if "image index:" in record.getMessage()]
    await archive.check()
    return lines[0]
