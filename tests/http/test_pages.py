"""Lists of contents, a page at a time, near duplicates and what is similar to a stored content."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import Sidecar


async def _pages(sidecar: Sidecar, **query: str) -> list[list[str]]:
    pages, after = [], None
    while True:
        params = query if after is None else {**query, "after": after}
        page = (await sidecar.call("GET", "/contents", params=params)).json
        pages.append([each["id"] for each in page["contents"]])
        after = page["next"]
        if after is None:
            return pages


async def _fill(sidecar: Sidecar) -> None:
    for i in range(12):
        content_type = ("text", "image")[i % 2]
        data = (PNG if content_type == "image" else b"") + b"%d" % i
        await sidecar.add(f"id {i}", data, content_type, user=("ann", "bob", "cid")[i % 3])


async def test_pages(sidecar: Sidecar) -> None:
    assert await _pages(sidecar) == [[]]
    await _fill(sidecar)
    ids = [f"id {i}" for i in range(12)]
    assert await _pages(sidecar) == [ids]
    assert await _pages(sidecar, limit="5") == [ids[:5], ids[5:10], ids[10:]]
    assert await _pages(sidecar, limit="6") == [ids[:6], ids[6:]]
    assert await _pages(sidecar, limit="3", user="bob") == [["id 1", "id 4", "id 7"], ["id 10"]]
    assert await _pages(sidecar, limit="4", type="image") == [["id 1", "id 3", "id 5", "id 7"], ["id 9", "id 11"]]
    assert await _pages(sidecar, user="bob", type="image") == [["id 1", "id 7"]]
    assert await _pages(sidecar, user="nobody") == [[]]
    (first, *_) = (await sidecar.call("GET", "/contents?limit=1")).json["contents"]
    assert first | {"original": True} == (await sidecar.call("GET", "/contents/id%200")).json


async def test_pages_are_stable_while_contents_come_and_go(sidecar: Sidecar) -> None:
    await _fill(sidecar)
    first = (await sidecar.call("GET", "/contents?limit=4")).json
    for gone in ("id 0", "id 3", "id 7", "id 11"):  # also the one the cursor stands on, and the newest
        await sidecar.call("DELETE", f"/contents/{gone.replace(' ', '%20')}")
    await sidecar.add("new", b"new")
    await sidecar.add("id 5", b"replaced, but still in its place")
    rest = (await sidecar.call("GET", "/contents", params={"after": first["next"]})).json
    assert [each["id"] for each in rest["contents"]] == ["id 4", "id 5", "id 6", "id 8", "id 9", "id 10", "new"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "invalid_limit"),
        ("limit=1001", "invalid_limit"),
        ("limit=x", "invalid_limit"),
        ("after=x", "invalid_after"),
        ("after=-1", "invalid_after"),
        ("after=99999999999999999999", "invalid_after"),
        ("type=video", "invalid_type"),
        ("user=", "invalid_user"),
    ],
)
async def test_wrong_parameters(sidecar: Sidecar, query: str, code: str) -> None:
    assert (await sidecar.call("GET", f"/contents?{query}")).error == (400, code)


async def test_near_duplicates_are_named_when_asked_for(sidecar: Sidecar) -> None:
    one = b"theme=1 seed=1"
    await sidecar.add("a", one)
    await sidecar.add("same bytes", one)
    await sidecar.add("other words", one + b" in other words")
    await sidecar.add("same theme", b"theme=1 seed=2")
    await sidecar.add("picture", PNG + one, "image")

    async def near(content_id: str, data: bytes, threshold: str) -> Any:
        reply = (await sidecar.add(content_id, data, near=threshold)).json
        assert all(score > 0.7 for score in (each["score"] for each in reply["near_duplicates"]))
        return reply["duplicate_of"], [each["id"] for each in reply["near_duplicates"]]

    assert await near("a", one, "0.97") == (["same bytes"], ["other words"])  # unchanged, yet answered
    assert await near("b", one, "0.97") == (["a", "same bytes"], ["other words"])
    assert await near("c", one + b"!", "0.7") == ([], ["a", "b", "other words", "same bytes", "same theme"])
    assert "near_duplicates" not in (await sidecar.add("d", b"no question, no answer")).json
    assert (await sidecar.add("e", one, near="1.01")).error == (400, "invalid_near")


async def test_what_is_similar_to_a_stored_content_needs_no_model(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    await asyncio.gather(*(sidecar.add(f"{t} {i}", b"theme=%d seed=%d" % (t, i)) for t in range(2) for i in range(4)))
    await sidecar.add("picture", PNG + b"theme=0 seed=0", "image")
    await fake.stop()

    async def similar(**query: str) -> Any:
        reply = await sidecar.call("GET", "/contents/0%200/similar", params=query)
        assert reply.status == 200
        return reply.json

    hits = (await similar(k="3"))["contents"]
    assert sorted(each["id"] for each in hits) == ["0 1", "0 2", "0 3"]
    assert len((await similar(k="100"))["contents"]) == 8
    each = await similar(k="3", target="each")
    assert [len(each["text"]["contents"]), each["image"]["contents"]] == [3, ["picture"]]
    assert (await sidecar.call("GET", "/contents/unknown/similar")).error == (404, "not_found")


async def test_the_newest_first_is_the_other_way_round(sidecar: Sidecar) -> None:
    assert await _pages(sidecar, order="newest") == [[]]
    await _fill(sidecar)
    ids = [f"id {i}" for i in reversed(range(12))]
    assert await _pages(sidecar, order="newest") == [ids]
    assert await _pages(sidecar, order="newest", limit="5") == [ids[:5], ids[5:10], ids[10:]]
    assert await _pages(sidecar, order="newest", limit="3", user="bob") == [["id 10", "id 7", "id 4"], ["id 1"]]
    images = [each for each in ids if int(each[3:]) % 2]
    assert await _pages(sidecar, order="newest", limit="4", type="image") == [images[:4], images[4:]]
    by_filter = {"filter": '{"must_not": [{"key": "type", "match": {"value": "text"}}]}', "order": "newest"}
    for limit in (1, 4, 6, 7):
        pages = await _pages(sidecar, limit=str(limit), **by_filter)
        assert pages == [images[start : start + limit] for start in range(0, 6, limit)]
    await sidecar.add("new", b"new")
    page = (await sidecar.call("GET", "/contents?order=newest&limit=1")).json
    assert [each["id"] for each in page["contents"]] == ["new"]
    await sidecar.call("DELETE", "/contents/new")  # the one the cursor stands on
    page = (await sidecar.call("GET", f"/contents?order=newest&limit=2&after={page['next']}")).json
    assert [each["id"] for each in page["contents"]] == ids[:2]
