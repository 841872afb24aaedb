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


async def _plant(sidecar: Sidecar) -> None:
    """Of the themes 0 to 5, and of each with each, texts and pictures: large enough that the means are known."""
    adds = []
    themes = [str(one) for one in range(6)] + [f"{one}+{two}" for one in range(6) for two in range(one)]
    for theme in themes:
        for seed in range(4):
            data = f"theme={theme} seed={seed}".encode()
            adds.append(sidecar.add(f"text {theme} {seed}", data))
            adds.append(sidecar.add(f"image {theme} {seed}", PNG + data, "image"))
    assert all(reply.status == 201 for reply in await asyncio.gather(*adds))


async def test_a_single_part_is_answered_as_retrieve_and_similar_do(sidecar: Sidecar) -> None:
    await _plant(sidecar)
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
    await _plant(sidecar)
    for target in ("text", "image"):
        query = [{"part": "picture"}, {"text": "theme=3 seed=99"}]
        found = _ids(await _search_with(sidecar, {"picture": PNG + b"theme=5 seed=99"}, query, k=4, target=target))
        assert sorted(found) == [f"{target} 5+3 {seed}" for seed in range(4)]


async def test_one_minus_another_finds_what_is_left(sidecar: Sidecar) -> None:
    await _plant(sidecar)
    less: dict[str, Any] = {"text": "theme=1 seed=98", "weight": -0.8}
    wholes: list[dict[str, Any]] = [{"text": "theme=4+1 seed=99"}, {"id": "image 4+1 0"}]
    for whole in wholes:
        for target in ("text", "image"):
            found = [
                each.split()[1].split("+") for each in _ids(await _search(sidecar, [whole, less], k=4, target=target))
            ]
            assert all("4" in themes and "1" not in themes for themes in found)
    assert any("1" in each.split()[1] for each in _ids(await _search(sidecar, wholes[:1], k=4)))  # without the minus


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
