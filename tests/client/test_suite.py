"""What a client does with the real service: each test runs four times, waiting and awaited, open and with keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clip_archive import Conflict, InvalidRequest, Item, NotFound, Part, PartlyFailed, Unauthorized
from clip_archive.answers import HealthAnswer, StatusAnswer

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import Sidecar
from .conftest import client_of

ODD_IDS = ["a/b", "a%2Fb", "hel//lo", "50% #1?&=+;", "é 漢 🙂", "preview", "similar", "a\\b", "'\"<b>"]


async def test_what_is_added_is_found_looked_at_changed_and_erased(client: Any, tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(PNG + b"cat")
    added = await client.add_content("cat", picture, user="ann", metadata={"title": "Cat", "tags": ["a", "b"]})
    assert (added.id, added.type, added.status, added.overwritten) == ("cat", "image", "added", True)
    assert (await client.add_content("cat", PNG + b"cat", user="ann")).status == "unchanged"
    await client.add_content("text", "a cat on a roof", near=0.5)
    found = await client.retrieve("a cat on a roof", k=1, fields="metadata")
    assert [(hit.id, hit.score, hit.metadata) for hit in found.contents] == [("text", 1.0, {})]
    each = await client.retrieve_each(picture, k=1)
    assert (each.image.contents, each.text.contents) == (["cat"], ["text"])
    stored = await client.get_content("cat")
    assert (stored.user, stored.metadata) == ("ann", {"title": "Cat", "tags": ["a", "b"]})
    changed = await client.patch_content("cat", {"title": None, "year": 2026})
    assert changed.metadata == {"tags": ["a", "b"], "year": 2026}
    assert await client.get_preview("text") == b"a cat on a roof"
    assert (await client.delete_content("cat")).overwritten is True
    with pytest.raises(NotFound) as raised:
        await client.delete_content("cat")
    assert (raised.value.status, raised.value.code, raised.value.retryable) == (404, "not_found", False)
    assert (await client.delete_user("ann")).deleted == 0


async def test_questions_of_several_parts(client: Any) -> None:
    for theme in range(3):
        await client.add_content(f"t{theme}", f"theme={theme} seed=1")
        await client.add_content(f"p{theme}", PNG + b"theme=%d seed=1" % theme)
    found = await client.search([Part(text="theme=1 seed=9"), Part(id="t2", weight=-0.5)], k=2, target="text")
    assert next(hit.id for hit in found.contents) == "t1"
    each = await client.search_each([Part(picture=PNG + b"theme=2 seed=5")], k=1)
    assert (each.text.contents, each.image.contents) == (["t2"], ["p2"])
    like = await client.get_similar("t1", k=1, target="image", fold=True)
    assert [hit.id for hit in like.contents] == ["p1"]
    assert (await client.get_similar_each("t1", k=1)).image.contents == ["p1"]
    with pytest.raises(ValueError, match="exactly one"):
        await client.search([Part()])
    only = {"must": [{"key": "type", "match": {"value": "image"}}]}
    assert {hit.id for hit in (await client.retrieve("theme=1 seed=1", filter=only)).contents} == {"p0", "p1", "p2"}


async def test_recommendations_bear_their_reason(client: Any) -> None:
    await client.add_content("mine", "theme=1 seed=1", user="ann")
    await client.add_content("yours", "theme=1 seed=2", user="bob")
    told = await client.recommend("ann", k=1, diversity=0.0, seed=3)
    assert [(each.id, each.because.id) for each in told.contents] == [("yours", "mine")]
    assert [each.id for each in (await client.recommend_each("ann", k=1)).text.contents] == ["yours"]
    assert (await client.recommend("nobody")).reason == "no_history"


async def test_every_id_arrives_whole(client: Any) -> None:
    for odd in ODD_IDS:
        assert (await client.add_content(odd, f"text of {odd}", user=odd)).id == odd
        assert (await client.get_content(odd)).user == odd
        assert (await client.get_preview(odd)).decode() == f"text of {odd}"
        await client.get_similar(odd)
    page = await client.get_contents(limit=4)
    seen = [each.id for each in page.contents]
    while page.next is not None:
        page = await client.get_contents(limit=4, after=page.next)
        seen += [each.id for each in page.contents]
    assert seen == ODD_IDS
    for odd in ODD_IDS:
        await client.delete_content(odd)
    assert (await client.get_contents()).contents == []


async def test_what_no_address_has_room_for(client: Any) -> None:
    metadata = {"title": "ü" * 1500, "other": "x"}
    await client.add_content("long", "text", user="漢" * 250, metadata=metadata)
    items = [Item("a", "one"), Item("b", "two", user="漢" * 250, metadata=metadata), Item("c", "three")]
    assert [each.id for each in await client.add_contents(items)] == ["a", "b", "c"]
    for each in ("long", "b"):
        assert (await client.get_content(each)).metadata == metadata


async def test_many_at_once_and_the_bad_ones_are_hard_to_overlook(client: Any) -> None:
    items = [Item(f"id/{number} ü", f"text {number}", user="ann") for number in range(150)]
    added = await client.add_contents(items)
    assert [each.id for each in added] == [item.id for item in items]
    assert {each.status for each in added} == {"added"}
    items[7] = Item("bad", " ")
    items[9] = Item("worse", b"no picture")
    items[100] = Item("", "text")
    with pytest.raises(PartlyFailed) as raised:
        await client.add_contents(items)
    assert [(each.id, each.error.code) for each in raised.value.failures] == [
        ("bad", "empty_text"),
        ("worse", "unsupported_image"),
        ("", "invalid_id"),
    ]
    assert [each.status for each in raised.value.added] == ["unchanged"] * 147
    assert "3 of 150" in str(raised.value)


async def test_an_id_that_is_taken(client: Any) -> None:
    await client.add_content("a", "text", only_new=True)
    with pytest.raises(Conflict) as raised:
        await client.add_content("a", "text", only_new=True)
    assert raised.value.code == "id_taken"
    with pytest.raises(PartlyFailed) as partly:
        await client.add_contents([Item("a", "text"), Item("b", "text")], only_new=True)
    assert [each.error.code for each in partly.value.failures] == ["id_taken"]


async def test_errors_are_told_apart(client: Any, fake: FakeTorchServe) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await client.retrieve("text", k=5000)
    assert (raised.value.status, raised.value.code) == (400, "invalid_k")
    assert raised.value.request_id
    assert raised.value.request_id in str(raised.value)
    with pytest.raises(InvalidRequest) as raised:
        await client.add_content("a", b"no picture")
    assert raised.value.code == "unsupported_image"
    fake.failure = "queue_full"
    with pytest.raises(Exception, match="503") as busy:
        await client.add_content("a", "text")
    assert busy.value.retryable is True  # type: ignore[attr-defined]
    fake.failure = None
    assert (await client.add_content("a", "text")).status == "added"


async def test_how_it_is(client: Any, served: Sidecar, kind: str, access: str) -> None:
    health = await client.health()
    assert isinstance(health, HealthAnswer)
    assert health.contents is not None
    assert (await client.index()).text.kind == "exact"
    assert ((await client.livez()).status, (await client.ready()).status) == ("alive", "ready")
    assert (await client.contract()).fits
    assert (await client.caller()).role == "admin"
    stranger = client_of(kind, served.url)
    if access == "keys":
        assert isinstance(await stranger.health(), StatusAnswer)
        with pytest.raises(Unauthorized) as raised:
            await stranger.get_contents()
        assert raised.value.code == "missing_key"
    await stranger.close()
