"""What every Store does, whatever is behind it; an engine more is a case more of the fixture `stores`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from index_sidecar.archive.content import CONTENT_TYPES, Content, ContentType, Entry, digest
from index_sidecar.archive.errors import InvalidInput, ModelMismatch, StorageUnavailable
from index_sidecar.archive.ports import Store, Written
from index_sidecar.qdrant.store import QdrantStore
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of, plain
from ..support.fake_torchserve import FINGERPRINT
from ..support.qdrant_server import QdrantServers

OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("qdrant, one node", marks=pytest.mark.servers),
        pytest.param("qdrant, three nodes", marks=pytest.mark.servers),
    ]
)
def store(request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path: Path) -> Iterator[Store]:
    """An empty store on the test's loop."""

    async def make() -> Store:
        if request.param == "sqlite":
            return SqliteStore(tmp_path / "data" / "contents.sqlite")
        servers: QdrantServers = request.getfixturevalue("qdrant_cluster" if "three" in request.param else "qdrant")
        return QdrantStore(servers.collection(request.getfixturevalue("collection_name")))

    store = runner.run(make())
    yield store
    runner.run(store.close())


async def _put(store: Store, contents: list[Content]) -> None:
    await store.put(contents[0])
    await asyncio.gather(*(store.put(content) for content in contents[1:]))


def _some(count: int) -> list[Content]:
    """Of both types and of several users, each of other bytes and a second younger than the one before."""
    contents = [
        content_of(f"id {i:03}", b"%d" % i, CONTENT_TYPES[i % 2], ("ann", "bob", None)[i % 3]) for i in range(count)
    ]
    return [replace(content, created=1_700_000_000.5 + number) for number, content in enumerate(contents)]


async def test_an_empty_store_has_nothing_and_no_model(store: Store) -> None:
    await store.check()
    assert (await store.fingerprint(), await store.count(), store.erasures_due()) == (None, 0, 0)
    assert [await store.get("a"), await store.preview("a")] == [None, None]
    assert [await store.get_many(["a"]), await store.get_many([])] == [[], []]
    assert await store.same_bytes(bytes(32), "text") == []
    assert [await store.history("ann", "text", 5), await store.sample("text", 5)] == [[], []]
    page = await store.page(None, None, 5, None)
    assert (page.contents, page.next) == ([], None)
    assert [(await store.delete("a")).gone, (await store.delete_many(["a", "b"], "ann")).gone] == [[], []]


async def test_a_content_comes_back_as_it_was_put(store: Store) -> None:
    contents = [
        content_of("a", b"one", user="u", truncated=True),
        content_of("b/?% 漢🙂", b"two", "image"),
        content_of("é" * 256, b"three", user='"quotes" and \\'),
    ]
    for content in contents:
        assert (await store.put(content)).gone == []
        assert plain(await store.get(content.id)) == plain(content)
    assert await store.fingerprint() == FINGERPRINT
    assert await store.count() == 3
    found = await store.get_many([contents[2].id, "nothing", contents[0].id])
    assert sorted(map(plain, found)) == sorted(map(plain, (contents[0], contents[2])))


async def test_a_put_replaces_all_that_its_id_held(store: Store) -> None:
    await store.put(content_of("a", b"one", user="u", truncated=True), b"preview")
    replaced = content_of("a", b"two", "image")
    assert (await store.put(replaced)).gone == []
    assert plain(await store.get("a")) == plain(replaced)
    assert await store.preview("a") is None
    assert await store.count() == 1


async def test_what_is_deleted_is_gone_at_once(store: Store) -> None:
    await _put(store, _some(6))
    deletes = [await store.delete(each) for each in ("nothing", "id 000", "id 000")]
    assert [written.gone for written in deletes] == [[], ["id 000"], []]
    assert await store.get("id 000") is None
    written = await store.delete_many(["id 001", "id 002", "nothing"])
    assert sorted(written.gone) == ["id 001", "id 002"]
    assert await store.count() == 3


async def test_only_the_users_own_are_deleted_with_a_user(store: Store) -> None:
    contents = _some(300)
    await _put(store, contents)
    ids = [content.id for content in contents]
    written = await store.delete_many(ids, "ann")
    assert sorted(written.gone) == [content.id for content in contents if content.user == "ann"]
    assert await store.count() == 200
    assert [(await store.delete_many(ids, user)).gone for user in ("ann", "nobody")] == [[], []]


async def test_previews_come_back_byte_by_byte(store: Store) -> None:
    for preview in (b"", b"x", bytes(range(256)) * 50):
        await store.put(content_of("a", user="u"), preview or b"\x00")
        found = await store.preview("a")
        assert found is not None
        assert (plain(found[0]), found[1]) == (plain(content_of("a", user="u")), preview or b"\x00")
    await store.put(content_of("b"))
    assert [await store.preview("b"), await store.preview("c")] == [None, None]


async def test_the_same_bytes_are_named_oldest_first(store: Store) -> None:
    for number, content_id in enumerate(("c", "a", "b")):
        await store.put(replace(content_of(content_id, b"same"), created=1_700_000_000.0 + number / 8))
    await store.put(content_of("d", b"other"))
    await store.put(content_of("e", b"same", "image"))
    assert [content.id for content in await store.same_bytes(digest(b"same"), "text")] == ["c", "a", "b"]
    assert [content.id for content in await store.same_bytes(digest(b"same"), "image")] == ["e"]
    assert await store.same_bytes(digest(b"unknown"), "text") == []
    await _put(store, [content_of(f"more {i}", b"same") for i in range(120)])
    assert len(await store.same_bytes(digest(b"same"), "text")) == 100


async def test_history_is_the_newest_of_one_user_and_type(store: Store) -> None:
    await _put(store, _some(30))
    assert [content.id for content in await store.history("ann", "image", 3)] == ["id 027", "id 021", "id 015"]
    assert [content.id for content in await store.history("ann", "text", 100)] == [
        *("id 024", "id 018", "id 012", "id 006", "id 000"),
    ]
    assert await store.history("nobody", "text", 5) == []


async def test_a_sample_is_the_contents_with_the_smallest_digests(store: Store) -> None:
    contents = _some(200)
    await _put(store, contents)
    for content_type in CONTENT_TYPES:
        expected = sorted((each.sha256, each.id) for each in contents if each.type == content_type)[:20]
        found = await store.sample(content_type, 20)
        assert [(each.sha256, each.id) for each in found] == expected


async def test_of_equal_contents_a_sample_has_one(store: Store) -> None:
    contents = [*_some(30), *(content_of(f"again {i:03}", b"%d" % (i % 3 * 2)) for i in range(120))]
    await _put(store, contents)
    for limit in (7, 15, 50):
        found = await store.sample("text", limit)
        expected = sorted({each.sha256 for each in contents if each.type == "text"})[:limit]
        assert [each.sha256 for each in found] == expected


async def _all_pages(store: Store, limit: int, user: str | None, content_type: ContentType | None) -> list[Entry]:
    entries: list[Entry] = []
    after = None
    while True:
        page = await store.page(user, content_type, limit, after)
        assert len(page.contents) <= limit
        entries += page.contents
        after = page.next
        if after is None:
            return entries


async def test_pages_name_every_content_once(store: Store) -> None:
    contents = _some(100)
    await _put(store, contents)
    for limit in (1, 7, 100, 1000):
        found = await _all_pages(store, limit, None, None)
        assert sorted(found, key=lambda entry: entry.id) == [content.entry for content in contents]
    choices: tuple[tuple[str | None, ContentType | None], ...] = (("ann", None), (None, "text"), ("ann", "image"))
    for user, content_type in choices:
        expected = [each.id for each in contents if user in (None, each.user) and content_type in (None, each.type)]
        assert sorted(entry.id for entry in await _all_pages(store, 9, user, content_type)) == expected


async def test_pages_of_the_newest_name_every_content_once_the_last_first(store: Store) -> None:
    contents = _some(30)
    # Three of the same instant, amid whom pages end.
    contents[20:23] = [replace(each, created=contents[20].created) for each in contents[20:23]]
    for content in contents:
        await store.put(content)
    for limit in (1, 2, 7, 30, 31):
        found, after, more = list[Entry](), None, True
        while more:
            page = await store.page(None, None, limit, after, newest=True)
            found, after, more = [*found, *page.contents], page.next, page.next is not None
        assert sorted(found, key=lambda entry: entry.id) == [content.entry for content in contents]
        assert [entry.created for entry in found] == sorted((each.created for each in contents), reverse=True)
    page = await store.page("ann", "image", 3, None, newest=True)
    assert [entry.id for entry in page.contents] == ["id 027", "id 021", "id 015"]
    with pytest.raises(InvalidInput):
        await store.page(None, None, 3, "no cursor", newest=True)


async def test_what_stays_is_named_once_whatever_else_changes(store: Store) -> None:
    contents = _some(100)
    await _put(store, contents)
    seen: list[str] = []
    page = await store.page(None, None, 10, None)
    step = 0
    while page.next is not None:
        seen += [entry.id for entry in page.contents]
        for entry in page.contents[:3]:
            await store.delete(entry.id)
        await store.put(content_of(f"new {step}", b"new"))
        step += 1
        page = await store.page(None, None, 10, page.next)
    seen += [entry.id for entry in page.contents]
    assert len(set(seen)) == len(seen)
    assert sorted(each for each in seen if not each.startswith("new")) == [content.id for content in contents]


@pytest.mark.parametrize("after", ["", "x", "id 1", "../points", "-1", "1 ", "x" * 500])
async def test_a_cursor_that_is_none(store: Store, after: str) -> None:
    await store.put(content_of("a"))
    with pytest.raises(InvalidInput) as caught:
        await store.page(None, None, 10, after)
    assert caught.value.code == "invalid_after"


async def test_vectors_of_two_models_are_never_mixed(store: Store) -> None:
    await store.put(content_of("a"))
    with pytest.raises(ModelMismatch) as caught:
        await store.put(content_of("b", fingerprint=OTHER_MODEL))
    assert FINGERPRINT in str(caught.value)
    assert OTHER_MODEL in str(caught.value)
    assert await store.count() == 1
    await store.check_model(FINGERPRINT)
    with pytest.raises(ModelMismatch):
        await store.check_model(OTHER_MODEL)


async def test_of_two_models_at_the_very_first_put_one_wins(store: Store) -> None:
    contents = [content_of(f"id {i}", fingerprint=(FINGERPRINT, OTHER_MODEL)[i % 2]) for i in range(8)]

    async def put(content: Content) -> Written:
        with contextlib.suppress(StorageUnavailable):  # on a cluster that has just decided: the caller comes again
            return await store.put(content)
        return await store.put(content)

    done = await asyncio.gather(*(put(content) for content in contents), return_exceptions=True)
    winner = await store.fingerprint()
    for content, result in zip(contents, done, strict=True):
        assert type(result) is (Written if content.embedding.fingerprint == winner else ModelMismatch)
        assert (await store.get(content.id) is not None) == isinstance(result, Written)
    assert await store.count() == 4


async def test_concurrent_writes_of_one_id_leave_one_whole_content(store: Store) -> None:
    contents = [content_of("a", b"%d" % i, CONTENT_TYPES[i % 2], f"user {i}") for i in range(40)]
    await asyncio.gather(*(store.put(content) for content in contents))
    assert plain(await store.get("a")) in [plain(content) for content in contents]
    assert await store.count() == 1
