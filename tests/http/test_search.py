"""POST /search: several parts make one question; one part alone is what /retrieve and /similar answer."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from index_sidecar.settings import Settings

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import Reply, Sidecar, running
from ..support.themes import plant

JSON = {"Content-Type": "application/json"}


async def _search(sidecar: Sidecar, query: list[dict[str, Any]], **fields: Any) -> Reply:
    return await sidecar.call("POST", "/search", json.dumps({"query": query, **fields}).encode(), headers=JSON)


async def _search_with(sidecar: Sidecar, pictures: dict[str, bytes], query: Any, **fields: Any) -> Reply:
    form = aiohttp.FormData()
    form.add_field("search", json.dumps({"query": query, **fields}))
    for name, data in pictures.items():
        form.add_field(name, io.BytesIO(data), filename="picture.png")
    return await sidecar.call("POST", "/search", form)


def _ids(reply: Reply) -> list[str]:
    assert reply.status == 200, reply
    return [hit["id"] for hit in reply.json["contents"]]


async def test_a_single_part_is_answered_as_retrieve_and_similar_do(sidecar: Sidecar) -> None:
    await plant(sidecar)
    text, picture = b"theme=1 seed=77", PNG + b"theme=2 seed=77"
    for options in ({}, {"target": "image", "k": 7}, {"target": "each"}, {"rank": "relevance", "min_relevance": 0.1}):
        asked = {name: str(value) for name, value in options.items()}
        assert (await _search(sidecar, [{"text": text.decode()}], **options)).json == (
            await sidecar.retrieve(text, **asked)
        ).json
        assert (await _search_with(sidecar, {"one": picture}, [{"part": "one"}], **options)).json == (
            await sidecar.retrieve(picture, "image", **asked)
        ).json
        similar = await sidecar.call("GET", "/contents/text%201%200/similar", params=asked)
        alike = (await _search(sidecar, [{"id": "text 1 0"}], **options)).json
        assert alike.pop("truncated") is False
        assert alike == similar.json


async def test_a_picture_plus_words_finds_what_is_about_both(sidecar: Sidecar) -> None:
    await plant(sidecar)
    for target in ("text", "image"):
        query = [{"part": "picture"}, {"text": "theme=3 seed=99"}]
        found = _ids(await _search_with(sidecar, {"picture": PNG + b"theme=5 seed=99"}, query, k=4, target=target))
        assert sorted(found) == [f"{target} 5+3 {seed}" for seed in range(4)]


async def test_ids_of_the_question_are_in_no_answer_and_k_is_kept(sidecar: Sidecar) -> None:
    await asyncio.gather(*(sidecar.add(f"id {number}", b"text %d" % number) for number in range(20)))
    found = _ids(await _search(sidecar, [{"id": "id 1"}, {"id": "id 2", "weight": -0.5}], k=18))
    assert len(found) == 18
    assert not {"id 1", "id 2"} & set(found)
    assert (await _search(sidecar, [{"id": "nobody"}])).error == (404, "not_found")


async def test_parts_that_cancel_are_an_error(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one")
    cancelling: list[dict[str, Any]] = [{"text": "one"}, {"text": "one", "weight": -1}]
    assert (await _search(sidecar, cancelling)).error == (400, "parts_cancel")
    assert (await _search(sidecar, [{"id": "a", "weight": 2}, {"text": "one", "weight": -2}])).error == (
        400,
        "parts_cancel",
    )


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"query": [{"text": "a", "weight": "much"}]}, "$.query[0].weight"),
        ({"query": [{"text": "a"}, {"id": "b", "text": "c"}]}, "$.query[1]"),
        ({"query": [{}]}, "$.query[0]"),
        ({"query": [{"text": "a", "wieght": 1}]}, "$.query[0]"),
        ({"query": []}, "$.query"),
        ({"query": [{"text": "a"}] * 17}, "$.query"),
        ({"query": [{"text": "a", "weight": -1}]}, "$.query"),
        ({"query": [{"text": "a", "weight": 0}]}, "$.query"),
        ({"query": [{"id": ".."}]}, "$.query[0].id"),
        ({"query": [{"part": "picture"}]}, "$.query[0].part"),
        ({"query": [{"text": "a"}], "k": 0}, "$.k"),
        ({"query": [{"text": "a"}], "k": 1000, "offset": 9001}, "$.offset"),
        ({"query": [{"text": "a"}], "order": "newest"}, "$.order"),
        ({"query": [{"text": "a"}], "without_user": "\n"}, "$.without_user"),
        ({"query": [{"text": "a"}], "fold": "true"}, "$.fold"),
        ({"query": [{"text": "a"}], "min_score": -1.5}, "$.min_score"),
        ({"query": [{"text": "a"}], "fields": "vector"}, "$.fields"),
        ({"query": [{"text": "a"}], "filter": []}, "$.filter"),
        (
            {"query": [{"text": "a"}], "filter": {"must": [{"key": "n", "range": {"gt": True}}]}},
            "$.filter.must[0].range.gt",
        ),
        ({"query": [{"text": "a"}], "filter": {"must": [{"key": "n", "match": {"value": 1 << 63}}]}}, "filter holds 9"),
        ([], "`object`"),
    ],
)
async def test_an_error_says_where(sidecar: Sidecar, body: Any, place: str) -> None:
    reply = await sidecar.call("POST", "/search", json.dumps(body).encode(), headers=JSON)
    assert reply.error == (400, "invalid_search")
    assert place in reply.json["error"]["message"]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"query": [{"text": "a", "weight": 1e999}]}', b"[" * 100_000])
async def test_what_is_no_json_is_an_error(sidecar: Sidecar, data: bytes) -> None:
    assert (await sidecar.call("POST", "/search", data, headers=JSON)).error == (400, "invalid_search")


async def test_what_is_wrong_with_a_part_is_said_as_retrieve_says_it(sidecar: Sidecar) -> None:
    assert (await _search(sidecar, [{"text": " "}])).error == (400, "empty_text")
    assert (await _search(sidecar, [{"text": "a" * 100_000}])).error == (413, "too_large")
    bad = await _search_with(sidecar, {"one": b"no picture"}, [{"part": "one"}])
    assert bad.error == (415, "unsupported_image")
    assert (await _search_with(sidecar, {"one": PNG, "two": PNG}, [{"part": "one"}])).error == (400, "invalid_search")
    assert (await sidecar.call("POST", "/search", b"text")).error == (415, "not_a_search")


async def test_the_model_is_asked_for_each_part_once(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    await sidecar.add("a", b"one")
    before = len(fake.requests)
    query: list[dict[str, Any]] = [{"text": f"words {number}"} for number in range(15)] + [{"id": "a"}]
    assert (await _search(sidecar, query)).status == 200
    assert len(fake.requests) - before == 15


async def test_pictures_of_a_question_fit_the_budget_and_give_it_back(settings: Settings) -> None:
    async with running(replace(settings, max_inflight_bytes=400_000)) as sidecar:
        pictures = {f"part {number}": PNG + bytes([number]) * 100_000 for number in range(5)}
        query = [{"part": name} for name in pictures]
        assert (await _search_with(sidecar, pictures, query)).error == (503, "overloaded")
        fewer = dict(list(pictures.items())[:3])
        for _ in range(5):
            assert (await _search_with(sidecar, fewer, query[:3])).status == 200


async def test_copies_fold_under_the_better_hit(sidecar: Sidecar) -> None:
    for content_id in ("a", "b", "c"):
        await sidecar.add(content_id, b"theme=1 seed=1")
    await sidecar.add("other", b"theme=1 seed=2")
    folded = await sidecar.retrieve(b"theme=1 seed=1", fold="true", k="2")
    assert [(hit["id"], hit.get("duplicates")) for hit in folded.json["contents"]] == [
        ("a", {"count": 2, "ids": ["b", "c"]}),
        ("other", None),
    ]
    assert (await _search(sidecar, [{"text": "theme=1 seed=1"}], fold=True, k=2)).json == folded.json
    assert (await sidecar.retrieve(b"theme=1 seed=1", fold="true", offset="1")).json["contents"][0]["id"] == "other"
    for gone, left in (("a", {"count": 1, "ids": ["c"]}), ("b", None)):  # the next one speaks for what is left
        assert (await sidecar.call("DELETE", f"/contents/{gone}")).status == 204
        folded = await sidecar.retrieve(b"theme=1 seed=1", fold="true", k="2")
        assert [hit.get("duplicates") for hit in folded.json["contents"]] == [left, None]


async def test_a_question_is_asked_among_what_passes_a_filter_and_told_with_metadata(sidecar: Sidecar) -> None:
    for number in range(12):
        metadata = json.dumps({"even": number % 2 == 0, "n": 215250709085334181 + number})
        await sidecar.add(f"id {number}", b"text %d" % number, metadata=metadata)
    condition: dict[str, Any] = {"must": [{"key": "even", "match": {"value": True}}]}
    query: list[dict[str, Any]] = [{"text": "text 1"}, {"id": "id 2", "weight": 0.5}]
    reply = await _search(sidecar, query, filter=condition, fields="metadata")
    assert sorted(_ids(reply)) == ["id 0", "id 10", "id 4", "id 6", "id 8"]
    for hit in reply.json["contents"]:
        assert hit["metadata"] == {"even": True, "n": 215250709085334181 + int(hit["id"].split()[1])}
    exactly = {"must": [{"key": "n", "match": {"value": 215250709085334182}}]}
    assert _ids(await _search(sidecar, query, filter=exactly)) == ["id 1"]
    nothings: list[dict[str, Any]] = [{}, {"filter": {}}, {"filter": None}]
    for nothing in nothings:
        assert len(_ids(await _search(sidecar, query, k=20, **nothing))) == 11
    asked = {"k": "20", "filter": json.dumps(condition), "fields": "metadata"}
    alone = await _search(sidecar, [{"text": "text 1"}], k=20, filter=condition, fields="metadata")
    assert alone.json == (await sidecar.retrieve(b"text 1", **asked)).json
    doubled = b'{"query": [{"text": "a"}], "filter": {"must": [], "must": []}}'
    assert (await sidecar.call("POST", "/search", doubled, headers=JSON)).error == (400, "invalid_search")


async def test_columns_tell_metadata_where_it_is_asked_for(sidecar: Sidecar) -> None:
    await sidecar.add("told", b"one", metadata='{"title": "One"}')
    await sidecar.add("untold", b"two")
    columns = (await sidecar.retrieve(b"one", target="each", fields="metadata")).json
    assert columns["text"]["contents"] == ["told", "untold"]
    assert columns["text"]["metadata"] == [{"title": "One"}, {}]
    assert columns["image"] == {"contents": [], "scores": [], "metadata": []}
    similar = await sidecar.call("GET", "/contents/untold/similar?target=each&fields=metadata")
    assert similar.json["text"]["metadata"] == [{"title": "One"}]
    assert "metadata" not in (await sidecar.retrieve(b"one", target="each")).json["text"]
    assert (await _search(sidecar, [{"text": "one"}], target="each", fields="metadata")).json == columns


async def test_newest_first_is_an_order_of_what_is_relevant(sidecar: Sidecar) -> None:
    await plant(sidecar)
    question, bar = b"theme=3 seed=77", {"min_relevance": "0.2", "target": "text"}
    relevant = await sidecar.found(question, k="1000", **bar)
    assert 4 <= len(relevant) < 60
    newest = await sidecar.found(question, k="1000", order="newest", **bar)
    assert sorted(newest) == sorted(relevant)
    created = [(await sidecar.call("GET", "/contents", params={"id": each})).json["created"] for each in newest]
    assert created == sorted(created, reverse=True)
    pages = [await sidecar.found(question, k="3", offset=str(first), order="newest", **bar) for first in (0, 3)]
    assert pages == [newest[:3], newest[3:6]]
    found = await _search(sidecar, [{"text": question.decode()}], k=3, order="newest", min_relevance=0.2, target="text")
    assert _ids(found) == newest[:3]
    assert (await sidecar.retrieve(question, order="newest")).error == (400, "invalid_order")


async def test_equal_scores_are_paged_whole_also_after_a_restart(settings: Settings) -> None:
    ids = sorted(f"copy {number}" for number in range(50))
    for time in ("first", "again"):
        async with running(settings) as sidecar:
            if time == "first":
                await asyncio.gather(*(sidecar.add(each, b"one") for each in reversed(ids)))
            pages = [await sidecar.found(b"one", offset=str(first)) for first in range(0, 60, 10)]
            assert [each for page in pages for each in page] == ids


async def test_recommendations_pass_a_filter_and_tell_their_metadata(sidecar: Sidecar) -> None:
    for number in range(4):
        await sidecar.add(f"mine {number}", b"theme=1 seed=%d" % number, user="ann")
    for number in range(40):
        metadata = json.dumps({"shelf": number % 10})
        await sidecar.add(f"other {number}", b"theme=1 seed=%d" % (100 + number), user="bob", metadata=metadata)
    condition = json.dumps({"must": [{"key": "shelf", "match": {"value": 7}}]})
    for target in ("any", "each"):
        params = {"user": "ann", "k": "4", "filter": condition, "fields": "metadata", "target": target}
        reply = await sidecar.call("POST", "/recommend", params=params)
        hits = reply.json["contents"] if target == "any" else reply.json["text"]["contents"]
        assert sorted(hit["id"] for hit in hits) == ["other 17", "other 27", "other 37", "other 7"]  # as many as exist
        assert all(hit["metadata"] == {"shelf": 7} for hit in hits)
    params = {"user": "ann", "filter": '{"must": [{"key": "shelf", "match": {"value": 70}}]}'}
    assert (await sidecar.call("POST", "/recommend", params=params)).json["reason"] == "nothing_new"
    assert "metadata" not in (await sidecar.call("POST", "/recommend?user=ann")).json["contents"][0]
