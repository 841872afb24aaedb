"""Originals of texts on a cluster: with their points, the preview as the start of them, and gone with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from index_sidecar.qdrant.migrate import copy
from index_sidecar.qdrant.store import QdrantStore
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of, plain

TEXT = "Ein Text, länger als seine Vorschau. ".encode() * 40
SHOWN = TEXT.decode()[:500].encode()


async def _original(store: QdrantStore, content_id: str) -> bytes | None:
    found = await store.originals.open(content_id)
    return None if found is None else await found[1].read(0, found[1].size)


async def test_a_text_is_kept_with_its_point(store: QdrantStore) -> None:
    await store.put(content_of("a", TEXT), SHOWN, TEXT)
    await store.put(content_of("b", TEXT), SHOWN)
    for content_id, kept in (("a", TEXT), ("b", None), ("nothing", None)):
        assert await _original(store, content_id) == kept
    assert [await store.originals.lacks(each) for each in ("a", "b")] == [False, True]
    await store.originals.give(replace(content_of("b", TEXT), sha256=bytes(32)), b"of other bytes")
    assert await _original(store, "b") is None
    await store.originals.give(content_of("b", TEXT), TEXT)
    assert await _original(store, "b") == TEXT
    for content_id in ("a", "b"):
        found = await store.preview(content_id)
        assert found is not None
        assert found[1] == SHOWN
        assert plain(await store.get(content_id)) == plain(content_of(content_id, TEXT))
    await store.set_metadata("a", {"n": 1})
    assert await _original(store, "a") == TEXT
    await store.put(content_of("b", b"something else"))
    assert await _original(store, "b") is None
    await store.delete("a")
    assert await _original(store, "a") is None


async def test_a_move_to_a_cluster_takes_texts_along(store: QdrantStore, tmp_path: Path) -> None:
    source = SqliteStore(tmp_path / "data" / "contents.sqlite")
    large = b"x" * (6 << 20)  # of which no call takes all
    texts = {"a": TEXT, **{f"large {number}": large + b"%d" % number for number in range(4)}}
    for content_id, text in texts.items():
        await source.put(content_of(content_id, text), None, text)
    await source.put(content_of("without", TEXT), SHOWN)
    assert await copy(source, store, lambda _: None) == 6
    assert {each: await _original(store, each) for each in texts} == texts
    assert await store.originals.lacks("without")
    await source.close()
