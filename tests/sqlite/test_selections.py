"""What passes a filter is kept while nothing changes, in bounded memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from index_sidecar.archive.filters import Filter, filter_of
from index_sidecar.sqlite import metadata
from index_sidecar.sqlite.selections import Selections
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of


def _numbered(number: int) -> Filter:
    return filter_of({"must": [{"key": "number", "match": {"value": number}}]})


async def test_what_was_found_is_kept_as_far_as_memory_allows(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "contents.sqlite")
    contents = [replace(content_of(f"id {n:04}", b"%d" % n), metadata={"number": n % 40}) for n in range(2000)]
    await asyncio.gather(*(store.put(content) for content in contents))
    salt = metadata.salt_of(store.database.write_connection)
    selections = Selections(store.database.selecting, salt, 1 << 20)  # of some 66 kB each
    first = await selections.select(_numbered(0))
    stored = await store.get_many([f"id {n:04}" for n in range(0, 2000, 40)])
    assert first.keys.tolist() == sorted(content.key or 0 for content in stored)
    assert len(stored) == 50
    assert await selections.select(_numbered(0)) is first
    found = []
    for number in range(40):
        found.append(await selections.select(_numbered(number)))
        assert selections.kept_bytes <= 1 << 20
    assert await selections.select(_numbered(39)) is found[39]
    assert await selections.select(_numbered(0)) is not first  # the oldest had to go
    assert selections.kept_bytes > 1 << 19
    selections.changed()
    assert selections.kept_bytes == 0
    assert await selections.select(_numbered(39)) is not found[39]

    small = Selections(store.database.selecting, salt, 1 << 16)
    everything = await small.select(filter_of({}))
    assert len(everything.keys) == 2000
    assert small.kept_bytes == 0  # too large to be kept
    assert list(everything.keys) == sorted(everything.keys)
    await store.close()
