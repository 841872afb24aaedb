"""What a recommendation costs the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from index_sidecar.archive.recommender import Recommender
from index_sidecar.archive.relevance import Calibration
from index_sidecar.archive.search import Search
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex

from ..support.contents import content_of


async def test_in_an_archive_of_one_type_few_contents_are_read(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "contents.sqlite")
    contents = [content_of(f"id {i}", b"%d" % i, user="ann" if i % 100 == 0 else "bob") for i in range(3000)]
    await asyncio.gather(*(store.put(replace(content, created=float(i))) for i, content in enumerate(contents)))
    index = FaissIndex(tmp_path, "float32", 10**9, 0.95)
    await index.load(store)

    async def calibration() -> Calibration:
        return Calibration()

    read: list[str] = []
    store.database.reader.connection.set_trace_callback(read.append)
    result = await Recommender(store, index, calibration).recommend("ann", Search(10), 0.3, 0, ("text", "image"))
    assert len(result.recommendations) == 10
    asked = [statement for statement in read if "json_each" in statement]
    ids = sum(statement.count('"id ') for statement in asked)
    assert 1 <= len(asked) <= 2
    assert 10 <= ids <= 7 * (10 + 20)  # k and some spare ones of each seed
    await index.close()
    await store.close()
