"""Originals of texts on a cluster: with their points, the preview as the start of them, and gone with them."""

from __future__ import annotations

from dataclasses import replace

from index_sidecar.qdrant.store import QdrantStore

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
