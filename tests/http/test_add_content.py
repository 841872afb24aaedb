"""Contents are added, replaced or refused, over real HTTP."""

from __future__ import annotations

import asyncio
import random
from hashlib import sha256

import pytest

from index_sidecar.archive.content import digest

from ..support.answers import added, score_of
from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import Sidecar


async def test_add_a_text_and_an_image(sidecar: Sidecar) -> None:
    reply = await sidecar.add("a", b"a photo of a cat")
    assert (reply.status, reply.json) == (201, added("a"))
    reply = await sidecar.add("b", PNG + b"pixels", "image", user="ann")
    assert (reply.status, reply.json) == (201, added("b", "image"))


async def test_the_same_again_changes_nothing(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one", user="ann")
    before = await sidecar.call("GET", "/contents/a")
    reply = await sidecar.add("a", b"one", user="ann")
    message = "this text was stored under this id before: nothing changed"
    assert (reply.status, reply.json) == (200, {**added("a"), "status": "unchanged", "msg": message})
    assert (await sidecar.call("GET", "/contents/a")).json == before.json


@pytest.mark.parametrize(
    ("data", "content_type", "query"),
    [(b"two", "text", {"user": "ann"}), (PNG, "image", {"user": "ann"}), (b"one", "text", {"user": "bob"})],
)
async def test_other_bytes_type_or_user_replace(
    sidecar: Sidecar, data: bytes, content_type: str, query: dict[str, str]
) -> None:
    await sidecar.add("a", b"one", user="ann")
    reply = await sidecar.add("a", data, content_type, **query)
    message = f"{content_type} stored in place of what the id held before"
    expected = {**added("a", content_type), "status": "replaced", "msg": message}
    assert (reply.status, reply.json) == (200, expected)
    content = (await sidecar.call("GET", "/contents/a")).json
    assert (content["type"], content["user"], content["sha256"]) == (
        *(content_type, query["user"], sha256(data).hexdigest()),
    )
    (hit,) = (await sidecar.retrieve(b"anything")).json["contents"]
    assert (hit["id"], hit["type"], hit["user"]) == ("a", content_type, query["user"])


async def test_the_user_can_be_taken_away(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one", user="ann")
    assert (await sidecar.add("a", b"one")).json["status"] == "replaced"
    assert (await sidecar.call("GET", "/contents/a")).json["user"] is None


async def test_duplicates_are_named_oldest_first_and_not_encoded_again(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    for number, content_id in enumerate(("c", "a", "b")):
        reply = await sidecar.add(content_id, b"same")
        assert (reply.status, reply.json) == (201, added(content_id, duplicate_of=("c", "a")[:number]))
    assert [request.data for request in fake.requests] == [b"ready?", b"same"]
    reply = await sidecar.add("c", b"same", user="ann")  # replaced, with the same bytes
    assert (reply.json["status"], reply.json["duplicate_of"]) == ("replaced", ["a", "b"])
    assert len(fake.requests) == 2
    assert (await sidecar.add("d", PNG, "image")).json["duplicate_of"] == []
    assert await sidecar.found(b"same", k="3") == ["a", "b", "c"]


async def test_the_same_bytes_as_another_type_are_another_content(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    data = b"GIF89a is a text as well"
    await sidecar.add("a", data)
    assert (await sidecar.add("b", data, "image")).json == added("b", "image")
    assert [request.type for request in fake.requests if request.data == data] == ["text", "image"]


async def test_a_text_that_was_cut_says_so_also_when_it_is_not_encoded_again(sidecar: Sidecar) -> None:
    long = b"word " * 78
    assert (await sidecar.add("a", long)).json["truncated"] is True
    assert (await sidecar.add("b", long)).json["truncated"] is True
    assert (await sidecar.call("GET", "/contents/b")).json["truncated"] is True
    assert (await sidecar.retrieve(long)).json["truncated"] is True
    assert (await sidecar.retrieve(b"short")).json["truncated"] is False


@pytest.mark.parametrize(
    ("data", "content_type", "error"),
    [
        (b"", "text", (400, "empty_text")),
        (b"\xff", "text", (400, "invalid_utf8")),
        (b"", "image", (400, "empty_image")),
        (b"%PDF", "image", (415, "unsupported_image")),
        (PNG + b"broken", "image", (400, "unreadable_image")),
        (PNG + b"huge", "image", (413, "too_many_pixels")),
    ],
)
async def test_a_content_that_cannot_be_encoded(
    sidecar: Sidecar, data: bytes, content_type: str, error: tuple[int, str]
) -> None:
    assert (await sidecar.add("a", data, content_type)).error == error
    assert (await sidecar.retrieve(data, content_type)).error == error
    assert (await sidecar.call("GET", "/contents/a")).error == (404, "not_found")


@pytest.mark.parametrize("seed", range(3))
async def test_calls_for_one_id_at_once_end_with_store_and_index_agreed(
    runner: asyncio.Runner, sidecar: Sidecar, fake: FakeTorchServe, seed: int
) -> None:
    numbers = random.Random(seed)
    texts, images = [b"text %d" % i for i in range(10)], [PNG + b"%d" % i for i in range(10)]
    fake.delay_s = 0.002
    calls = [sidecar.add("a", text, user=f"u{i % 3}") for i, text in enumerate(texts)]
    calls += [sidecar.add("a", image, "image") for image in images]
    calls += [sidecar.call("DELETE", "/contents/a") for _ in range(6)]
    numbers.shuffle(calls)
    replies = await asyncio.gather(*calls)
    assert {reply.status for reply in replies} <= {200, 201, 204, 404}
    held = await sidecar.call("GET", "/contents/a")
    found = [(await sidecar.retrieve(b"q", target=target)).json["contents"] for target in ("text", "image")]
    counts = (await sidecar.call("GET", "/health")).json["contents"]
    if held.status == 404:
        assert (found, counts) == ([[], []], {"text": 0, "image": 0})
        return
    (data,) = [data for data in texts + images if digest(data).hex() == held.json["sha256"]]
    content_type = held.json["type"]
    hit = {
        "id": "a",
        "type": content_type,
        "user": held.json["user"],
        "score": score_of((b"q", "text"), (data, content_type)),
        "relevance": None,
    }
    assert found == [[hit] if content_type == each else [] for each in ("text", "image")]
    assert counts == {"text": 0, "image": 0} | {content_type: 1}


async def test_of_adds_of_one_id_at_once_each_sees_the_one_before(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    fake.delay_s = 0.002
    same = await asyncio.gather(*(sidecar.add("a", b"same") for _ in range(10)))
    assert sorted(reply.json["status"] for reply in same) == ["added"] + ["unchanged"] * 9
    assert [request.data for request in fake.requests] == [b"ready?", b"same"]
    other = await asyncio.gather(*(sidecar.add("b", b"%d" % i) for i in range(10)))
    assert sorted(reply.json["status"] for reply in other) == ["added"] + ["replaced"] * 9
