"""QdrantStore on a real node: what a put promises, what another sidecar sees of it, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from index_sidecar.archive.content import CONTENT_TYPES, digest
from index_sidecar.archive.errors import ModelMismatch, StorageUnavailable, StoreError
from index_sidecar.archive.ports import Written
from index_sidecar.qdrant.points import point_id
from index_sidecar.qdrant.store import QdrantStore

from ..support.contents import content_of, plain
from ..support.fake_torchserve import FINGERPRINT
from ..support.qdrant_server import QdrantServers, wait_for

OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"


async def test_a_content_comes_back_as_it_was_put_to_any_sidecar(stores: list[QdrantStore]) -> None:
    contents = [
        content_of("a", b"one", user="u", truncated=True),
        content_of("b/?% 漢🙂", b"two", "image"),
        content_of("é" * 256, b"three", user='"quotes" and \\'),
    ]
    for content in contents:
        await stores[0].put(content)
        for store in stores:
            assert plain(await store.get(content.id)) == plain(content)
            assert await store.fingerprint() == FINGERPRINT
    assert await stores[1].get("c") is None
    assert await stores[1].count() == 3


async def test_delete(stores: list[QdrantStore]) -> None:
    assert (await stores[0].delete("a")).gone == []
    await stores[0].put(content_of("a"))
    calls = ((stores[1], "b"), (stores[1], "a"), (stores[0], "a"))
    assert [(await store.delete(content_id)).gone for store, content_id in calls] == [[], ["a"], []]
    assert await stores[0].get("a") is None
    assert await stores[0].count() == 0


async def test_of_one_id_twice_in_a_batch_the_last_counts(store: QdrantStore) -> None:
    await store.put_all([(content_of("a", b"one"), b"1"), (content_of("b"), None), (content_of("a", b"two"), b"2")])
    found = await store.preview("a")
    assert found is not None
    assert (plain(found[0]), found[1]) == (plain(content_of("a", b"two")), b"2")
    assert await store.count() == 2


async def test_a_batch_larger_than_a_segment_of_the_log(store: QdrantStore) -> None:
    contents = [content_of(f"id {i}", b"%d" % i) for i in range(200)]
    await store.put_all([(content, os.urandom(40_000)) for content in contents])
    assert await store.count() == 200
    found = await store.preview("id 199")
    assert found is not None
    assert len(found[1]) == 40_000


async def test_a_page_goes_on_where_the_content_at_its_cursor_is_deleted(store: QdrantStore) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, CONTENT_TYPES[i % 2], ("ann", None)[i % 3 == 0]) for i in range(100)]
    await store.put_all([(content, None) for content in contents])
    page = await store.page(None, None, 50, None)
    assert page.next is not None
    first = [content.id for content in page.contents]
    for content_id in first[:10]:
        await store.delete(content_id)
    (at_cursor,) = (content for content in contents if point_id(content.id) == page.next)
    await store.delete(at_cursor.id)
    await store.put(content_of("new", b"new"))
    rest = await store.page(None, None, 1000, page.next)
    ids = {content.id for content in rest.contents}
    assert ids - {"new"} == {content.id for content in contents} - set(first) - {at_cursor.id}


async def test_all_contents_of_a_user_go_and_no_others(stores: list[QdrantStore]) -> None:
    contents = [content_of(f"id {i}", b"%d" % i, user=("ann", "bob", None)[i % 3]) for i in range(2400)]
    for first in range(0, 2400, 400):
        await stores[0].put_all([(content, None) for content in contents[first : first + 400]])
    gone = [
        await stores[1].delete_many([each.id for each in contents[first : first + 800]], "ann")
        for first in range(0, 2400, 800)
    ]
    assert sorted(id_ for each in gone for id_ in each.gone) == sorted(
        each.id for each in contents if each.user == "ann"
    )
    assert await stores[0].count() == 1600
    assert (await stores[0].delete_many(["id 0", "id 1"], "ann")).gone == []
    assert (await stores[0].delete_many(["id 0", "id 1"], "nobody")).gone == []


async def test_vectors_of_two_models_are_never_mixed(stores: list[QdrantStore]) -> None:
    await stores[0].put(content_of("a"))
    for store in stores:
        with pytest.raises(ModelMismatch) as caught:
            await store.put(content_of("b", fingerprint=OTHER_MODEL))
        assert FINGERPRINT in str(caught.value)
        assert OTHER_MODEL in str(caught.value)
        with pytest.raises(ModelMismatch):
            await store.check_model(OTHER_MODEL)
        await store.check_model(FINGERPRINT)
    assert await stores[0].count() == 1


async def test_of_two_models_at_the_very_first_add_one_wins(qdrant: QdrantServers, collection_name: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stores = [QdrantStore(qdrant.collection(collection_name)) for _ in range(8)]
        for store in stores:
            stack.push_async_callback(store.close)
        contents = [content_of(f"id {i}", fingerprint=(FINGERPRINT, OTHER_MODEL)[i % 2]) for i in range(8)]
        done = await asyncio.gather(
            *(store.put(content) for store, content in zip(stores, contents, strict=True)), return_exceptions=True
        )
        winner = await stores[0].fingerprint()
        for content, result in zip(contents, done, strict=True):
            expected = Written if content.embedding.fingerprint == winner else ModelMismatch
            assert type(result) is expected
        page = await stores[1].page(None, None, 100, None)
        stored = await stores[1].get_many([entry.id for entry in page.contents])
        assert {content.embedding.fingerprint for content in stored} == {winner}
        assert len(page.contents) == 4


async def test_concurrent_writes_of_one_id_leave_one_whole_content(stores: list[QdrantStore]) -> None:
    contents = [content_of("a", b"%d" % i, CONTENT_TYPES[i % 2], f"user {i}") for i in range(40)]
    await asyncio.gather(*(stores[i % 2].put(content) for i, content in enumerate(contents)))
    left = [plain(await store.get("a")) for store in stores]
    assert left[0] == left[1]
    assert left[0] in [plain(content) for content in contents]
    assert await stores[0].count() == 1


async def test_a_collection_whose_maker_died_halfway_is_finished(
    store: QdrantStore, qdrant: QdrantServers, collection_name: str
) -> None:
    await store.put(content_of("a"))
    path = f"/collections/{collection_name}"
    for field in ("user", "sample"):
        qdrant.nodes[0].call("DELETE", f"{path}/index/{field}?wait=true")
    next_sidecar = qdrant.collection(collection_name)
    await next_sidecar.check()
    await next_sidecar.close()
    indexes = qdrant.nodes[0].call("GET", path)["payload_schema"]
    assert {name: index["data_type"] for name, index in indexes.items()} == {
        "type": "keyword",
        "user": "keyword",
        "sha256": "keyword",
        "created": "float",
        "sample": "integer",
        "terms": "keyword",
        "numbers[].name": "keyword",
        "numbers[].high": "float",
    }


# what is refused, and what is not there


async def test_a_collection_of_another_program_is_refused_and_left_as_it_is(
    qdrant: QdrantServers, collection_name: str
) -> None:
    path = f"/collections/{collection_name}"
    qdrant.nodes[0].call("PUT", path, {"vectors": {"size": 4, "distance": "Cosine"}})
    before = qdrant.nodes[0].call("GET", path)
    collection = qdrant.collection(collection_name)
    with pytest.raises(StoreError, match=rf"{collection_name} was not made by this program.*INDEX_URL"):
        await collection.check()
    with pytest.raises(StorageUnavailable):
        await QdrantStore(collection).put(content_of("a"))
    await collection.close()
    assert qdrant.nodes[0].call("GET", path) == before


async def test_the_collection_that_vanishes_under_us_is_no_empty_archive(
    store: QdrantStore, qdrant: QdrantServers, collection_name: str
) -> None:
    await store.put(content_of("a"))
    qdrant.nodes[0].call("DELETE", f"/collections/{collection_name}")
    store._collection._nodes.timeout_s = 0.5
    for call in (store.get("a"), store.put(content_of("a")), store.count()):
        with pytest.raises(StorageUnavailable):
            await call


# erasure: README, "What is erased"


def _lies_about(folder: Path, *marks: bytes) -> list[str]:
    """The files below `folder` that hold one of the marks."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # Qdrant takes files away meanwhile
                data = (Path(place) / name).read_bytes()
                found += [name] if any(mark in data for mark in marks) else []
    return found


async def test_what_is_deleted_leaves_the_disk_on_demand(
    store: QdrantStore, qdrant: QdrantServers, collection_name: str
) -> None:
    secret = digest(b"a content that must go").hex()  # nothing that could be compressed
    vector = np.asarray(content_of(secret, secret.encode()).embedding.vector).tobytes()[:64]
    await store.put_all([(content_of(f"id {i}", b"%d" % i), None) for i in range(400)])
    await store.put(content_of(secret, secret.encode(), user="ann"))
    node = qdrant.nodes[0]
    folder, path = node.folder / "storage" / "collections" / collection_name, f"/collections/{collection_name}"
    assert (await store.delete_many([secret, "id 1"], "ann")).gone == [secret]
    assert _lies_about(folder, secret.encode(), vector)  # not at once: that is what the README says

    node.call("PATCH", path, {"optimizers_config": {"deleted_threshold": 0.000001}})
    wait_for(lambda: not _lies_about(folder / "0" / "segments", secret.encode(), vector), 20)
    node.call("PATCH", path, {"optimizers_config": {"deleted_threshold": 0.05}})
    # In the log it is until twice its 4 MB have been written after it.
    for _ in range(5):
        await store.put_all([(content_of(f"more {i}", b"%d" % i), os.urandom(20_000)) for i in range(100)])
    wait_for(lambda: not _lies_about(folder, secret.encode(), vector), 20)
    assert await store.count() == 500


async def test_a_content_that_is_replaced_is_not_said_to_be_overwritten(
    qdrant: QdrantServers, collection_name: str
) -> None:
    store = QdrantStore(qdrant.collection(collection_name))
    assert await (await store.put(content_of("a", b"one"))).is_overwritten(5)  # nothing was there
    assert not await (await store.put(content_of("a", b"two"))).is_overwritten(5)
    assert not await (await store.delete("a")).is_overwritten(5)
    assert await (await store.put(content_of("a", b"one"))).is_overwritten(5)
    await store.close()


async def test_of_many_first_contents_at_once_none_is_refused(
    qdrant_cluster: QdrantServers, collection_name: str
) -> None:
    """The first makes the collection, a decision of the cluster that its nodes hear of one after the other."""
    for number in range(4):
        stores = [QdrantStore(qdrant_cluster.collection(f"{collection_name}-{number}", 30)) for _ in range(3)]
        await asyncio.gather(*(stores[i % 3].put(content_of(f"id {i}", b"%d" % i)) for i in range(24)))
        found = await stores[0].get_many([f"id {i}" for i in range(24)])
        assert len(found) == 24
        await asyncio.gather(*(store.close() for store in stores))
