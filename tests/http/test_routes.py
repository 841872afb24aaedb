"""The contract of the HTTP calls, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
from dataclasses import replace
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import pytest

from index_sidecar import __version__
from index_sidecar.archive.content import digest
from index_sidecar.settings import Settings

from ..support.fake_torchserve import FINGERPRINT, PNG, SECRET, Failure, FakeTorchServe, vector_of
from ..support.sidecar import AUTHORIZATION, Sidecar, path_of, running


def _score(one: tuple[bytes, str], other: tuple[bytes, str]) -> Any:
    return pytest.approx(float(vector_of(*one) @ vector_of(*other)), abs=1e-5)


def _added(content_id: str, content_type: str = "text", duplicate_of: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "id": content_id,
        "type": content_type,
        "status": "added",
        "duplicate_of": list(duplicate_of),
        "truncated": False,
        "msg": f"{content_type} added",
    }


# add_content


async def test_add_a_text_and_an_image(sidecar: Sidecar) -> None:
    reply = await sidecar.add("a", b"a photo of a cat")
    assert (reply.status, reply.json) == (201, _added("a"))
    reply = await sidecar.add("b", PNG + b"pixels", "image", user="ann")
    assert (reply.status, reply.json) == (201, _added("b", "image"))


async def test_the_same_again_changes_nothing(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one", user="ann")
    before = await sidecar.call("GET", "/contents/a")
    reply = await sidecar.add("a", b"one", user="ann")
    message = "this text was stored under this id before: nothing changed"
    assert (reply.status, reply.json) == (200, {**_added("a"), "status": "unchanged", "msg": message})
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
    expected = {**_added("a", content_type), "status": "replaced", "msg": message}
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
        assert (reply.status, reply.json) == (201, _added(content_id, duplicate_of=("c", "a")[:number]))
    assert [request.data for request in fake.requests] == [b"ready?", b"same"]
    reply = await sidecar.add("c", b"same", user="ann")  # replaced, with the same bytes
    assert (reply.json["status"], reply.json["duplicate_of"]) == ("replaced", ["a", "b"])
    assert len(fake.requests) == 2
    assert (await sidecar.add("d", PNG, "image")).json["duplicate_of"] == []
    assert await sidecar.found(b"same", k="3") == ["a", "b", "c"]


async def test_the_same_bytes_as_another_type_are_another_content(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    data = b"GIF89a is a text as well"
    await sidecar.add("a", data)
    assert (await sidecar.add("b", data, "image")).json == _added("b", "image")
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


# parameters, one test a limit


@pytest.mark.parametrize("content_id", ["a" * 257, "", "a\nb", "a\x00b", "\u2028", ".", ".."])
async def test_a_wrong_id(sidecar: Sidecar, content_id: str) -> None:
    assert (await sidecar.add(content_id, b"text")).error == (400, "invalid_id")


async def test_a_missing_id(sidecar: Sidecar) -> None:
    assert (await sidecar.call("POST", "/add_content?type=text", b"text")).error == (400, "invalid_id")


@pytest.mark.parametrize("user", ["", "u" * 257, "a\tb"])
async def test_a_wrong_user(sidecar: Sidecar, user: str) -> None:
    assert (await sidecar.add("a", b"text", user=user)).error == (400, "invalid_user")
    assert (await sidecar.retrieve(b"text", user=user)).error == (400, "invalid_user")


@pytest.mark.parametrize("query", ["", "type=", "type=video", "type=TEXT"])
async def test_a_wrong_type(sidecar: Sidecar, query: str) -> None:
    assert (await sidecar.call("POST", "/add_content?id=a&" + query, b"text")).error == (400, "invalid_type")
    assert (await sidecar.call("POST", "/retrieve?" + query, b"text")).error == (400, "invalid_type")


@pytest.mark.parametrize("k", ["0", "1001", "abc", "", "-1", "٣", "1.5", "+1"])
async def test_a_wrong_k(sidecar: Sidecar, k: str) -> None:
    assert (await sidecar.retrieve(b"text", k=k)).error == (400, "invalid_k")


async def test_k_is_ten_when_not_said_and_may_pass_the_size_of_the_archive(sidecar: Sidecar) -> None:
    await asyncio.gather(*(sidecar.add(f"id {i}", b"%d" % i) for i in range(12)))
    assert [len(await sidecar.found(b"q", **query)) for query in ({}, {"k": "1"}, {"k": "1000"})] == [10, 1, 12]


async def test_a_wrong_target(sidecar: Sidecar) -> None:
    assert (await sidecar.retrieve(b"text", target="all")).error == (400, "invalid_target")


# retrieve


async def test_an_empty_archive(sidecar: Sidecar) -> None:
    reply = await sidecar.retrieve(b"q")
    assert (reply.status, reply.json) == (200, {"contents": [], "truncated": False})
    nothing: dict[str, list[Any]] = {"contents": [], "scores": []}
    reply = await sidecar.retrieve(b"q", target="each")
    assert (reply.status, reply.json) == (200, {"text": nothing, "image": nothing, "truncated": False})


async def test_the_shape_of_each_target(sidecar: Sidecar) -> None:
    cat, dog, picture = (b"cat", "text"), (b"dog", "text"), (PNG + b"cat", "image")
    await sidecar.add("t1", cat[0], user="ann")
    await sidecar.add("t2", dog[0])
    await sidecar.add("i1", picture[0], "image")
    query = (b"cat", "text")
    hits = {
        "t1": {"id": "t1", "type": "text", "user": "ann", "score": pytest.approx(1.0, abs=1e-5), "relevance": None},
        "t2": {"id": "t2", "type": "text", "user": None, "score": _score(query, dog), "relevance": None},
        "i1": {"id": "i1", "type": "image", "user": None, "score": _score(query, picture), "relevance": None},
    }
    ranking = sorted(hits, key=lambda each: -float(hits[each]["score"].expected))
    texts = [each for each in ranking if each[0] == "t"]
    expected: dict[str, dict[str, Any]] = {
        "any": {"contents": [hits[each] for each in ranking]},
        "text": {"contents": [hits[each] for each in texts]},
        "image": {"contents": [hits["i1"]]},
        "each": {
            "text": {"contents": texts, "scores": [hits[each]["score"] for each in texts]},
            "image": {"contents": ["i1"], "scores": [hits["i1"]["score"]]},
        },
    }
    for target, body in expected.items():
        reply = await sidecar.retrieve(b"cat", target=target)
        assert (reply.status, reply.json) == (200, {**body, "truncated": False})
    assert (await sidecar.retrieve(b"cat")).json == {**expected["any"], "truncated": False}
    assert await sidecar.found(b"cat", k="2") == ranking[:2]  # of both types together ...
    each = (await sidecar.retrieve(b"cat", k="1", target="each")).json
    assert (each["text"]["contents"], each["image"]["contents"]) == (["t1"], ["i1"])  # ... or of each


async def test_an_image_finds_itself(sidecar: Sidecar) -> None:
    await sidecar.add("a", PNG + b"one", "image")
    await sidecar.add("b", PNG + b"two", "image")
    assert await sidecar.found(PNG + b"two", "image", k="1") == ["b"]


async def test_the_contents_of_the_asking_user_are_left_out(sidecar: Sidecar) -> None:
    await asyncio.gather(*(sidecar.add(f"a{i}", b"a%d" % i, user="ann") for i in range(30)))
    await sidecar.add("b", b"b", user="bob")
    await sidecar.add("n", b"n")
    assert sorted(await sidecar.found(b"a1", k="2", user="ann")) == ["b", "n"]
    assert sorted(await sidecar.found(b"a1", k="1000", user="ann")) == ["b", "n"]
    assert (await sidecar.found(b"a1", k="1", user="bob")) == ["a1"]
    assert len(await sidecar.found(b"a1", k="1000", user="nobody")) == 32
    each = (await sidecar.retrieve(b"b", target="each", user="ann")).json
    assert sorted(each["text"]["contents"]) == ["b", "n"]


# contents

IDS = [
    "plain",
    "with/slash",
    "/",
    "a//b/",
    "../up",
    "a/../b",
    "with space",
    " ",
    "emoji 🙂",
    "漢字",
    "100%",
    "%2F",
    "%252F",
    "a?b",
    "a#b",
    "a+b",
    "a&b=c",
    "a;b:c@d",
    "{braces}",
    "[b]",
    "\"quotes'",
    "back\\slash",
    "https://example.org/x?id=1#y",
    "é" * 256,
]


@pytest.mark.parametrize("content_id", IDS)
async def test_an_id_round_trips_through_query_and_path(sidecar: Sidecar, content_id: str) -> None:
    query = urlencode({"id": content_id, "type": "text"})
    assert (await sidecar.call("POST", f"/add_content?{query}", b"one")).json["id"] == content_id
    reply = await sidecar.call("GET", path_of(content_id))
    assert reply.status == 200
    assert reply.json == {
        "id": content_id,
        "type": "text",
        "user": None,
        "sha256": sha256(b"one").hexdigest(),
        "created": pytest.approx(time.time(), abs=60),
        "truncated": False,
        "metadata": {},
    }
    assert await sidecar.found(b"one") == [content_id]
    assert (await sidecar.call("DELETE", path_of(content_id))).status == 204
    assert (await sidecar.call("GET", path_of(content_id))).error == (404, "not_found")


async def test_delete_takes_it_out_of_the_answers_for_good(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one")
    await sidecar.add("b", b"two")
    reply = await sidecar.call("DELETE", "/contents/a")
    assert (reply.status, reply.json) == (204, None)
    assert await sidecar.found(b"one") == ["b"]
    assert (await sidecar.call("DELETE", "/contents/a")).error == (404, "not_found")
    assert (await sidecar.add("a", b"one")).json == _added("a")


async def test_an_id_in_the_path_is_checked_too(sidecar: Sidecar) -> None:
    for path in ("/contents/" + "a" * 257, "/contents/a%0Ab", "/contents/%00"):
        assert (await sidecar.call("GET", path)).error == (400, "invalid_id")
        assert (await sidecar.call("DELETE", path)).error == (400, "invalid_id")


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
        "score": _score((b"q", "text"), (data, content_type)),
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


async def test_a_deleted_id_is_not_revived_by_a_restart(settings: Settings) -> None:
    async with running(settings) as sidecar:
        for content_id in ("a", "b", "c"):
            await sidecar.add(content_id, content_id.encode(), user="ann")
        await sidecar.call("DELETE", "/contents/b")
        await sidecar.add("c", PNG, "image")
        before = (await sidecar.retrieve(b"q")).json
    async with running(settings) as sidecar:
        assert (await sidecar.retrieve(b"q")).json == before
        assert [hit["id"] for hit in before["contents"]] == await sidecar.found(b"q")
        assert sorted(await sidecar.found(b"q")) == ["a", "c"]
        assert await sidecar.found(b"q", user="ann") == ["c"]


# errors


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", "/", (404, "not_found")),
        ("GET", "/contents/", (404, "not_found")),
        ("POST", "/mv_retrieval/v0.2/add_content", (404, "not_found")),
        ("GET", "/add_content", (405, "method_not_allowed")),
        ("DELETE", "/retrieve", (405, "method_not_allowed")),
        ("PUT", "/contents/a", (405, "method_not_allowed")),
    ],
)
async def test_what_is_no_call_of_ours(sidecar: Sidecar, method: str, path: str, error: tuple[int, str]) -> None:
    reply = await sidecar.call(method, path)
    assert reply.error == error
    assert ("Allow" in reply.headers) == (error[0] == 405)


@pytest.mark.parametrize(
    ("failure", "code", "retry_after"),
    [
        ("queue_full", "overloaded", "1"),
        ("internal_500", "embedder_unavailable", "5"),
        ("internal_503", "embedder_unavailable", "5"),
        ("hang", "embedder_unavailable", "5"),
        ("disconnect", "embedder_unavailable", "5"),
        ("nan", "embedder_unavailable", "5"),
    ],
)
async def test_what_torchserve_cannot_do_is_a_503_that_says_when_to_come_back(
    sidecar: Sidecar, fake: FakeTorchServe, failure: Failure, code: str, retry_after: str
) -> None:
    fake.failure = failure
    replies = await asyncio.gather(sidecar.add("a", b"text"), sidecar.retrieve(b"text"))
    for reply in replies:
        assert reply.error == (503, code)
        assert reply.headers["Retry-After"] == retry_after
        assert SECRET not in str(reply)
    assert (await sidecar.call("GET", "/contents/a")).status == 404
    fake.failure = None
    assert (await sidecar.add("a", b"text")).status == 201


async def test_another_model_at_run_time_is_refused(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    await sidecar.add("a", b"one")
    fake.fingerprint = other = "clip-vit-b-32:openai:fedcba9876543210:p1"
    for reply in (await sidecar.add("b", b"two"), await sidecar.retrieve(b"two")):
        assert reply.error == (503, "model_mismatch")
        assert reply.headers["Retry-After"] == "60"
        assert FINGERPRINT in reply.json["error"]["message"]
        assert other in reply.json["error"]["message"]
    fake.fingerprint = FINGERPRINT
    assert await sidecar.found(b"two") == ["a"]


async def test_an_empty_archive_takes_any_model(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    fake.fingerprint = other = "clip-vit-b-32:openai:fedcba9876543210:p1"
    assert (await sidecar.add("a", b"one")).status == 201
    health = (await sidecar.call("GET", "/health")).json
    assert (health["model"], health["weights"]) == (other, "openai")


@pytest.mark.parametrize("given", ["abc-123", "x" * 128, "!~"])
async def test_a_safe_request_id_is_kept_and_handed_on(sidecar: Sidecar, fake: FakeTorchServe, given: str) -> None:
    params = {"id": "a", "type": "text"}
    reply = await sidecar.call("POST", "/add_content", b"text", params=params, headers={"X-Request-ID": given})
    assert reply.headers["X-Request-ID"] == given
    assert fake.requests[-1].request_id == given
    reply = await sidecar.call("GET", "/nowhere", headers={"X-Request-ID": given})
    assert reply.error == (404, "not_found")
    assert reply.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "two words", "ü", "x" * 129, "a\tb"])
async def test_an_unsafe_request_id_is_replaced(sidecar: Sidecar, given: str) -> None:
    reply = await sidecar.call("GET", "/nowhere", headers={"X-Request-ID": given})
    assert reply.error == (404, "not_found")
    assert reply.headers["X-Request-ID"] != given
    assert len(reply.headers["X-Request-ID"]) == 32


async def test_health(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one")
    await sidecar.add("b", PNG, "image")
    assert (await sidecar.call("GET", "/health")).json == {
        "status": "ok",
        "version": __version__,
        "ready": True,
        "storage": "available",
        "embedder": "available",
        "model": FINGERPRINT,
        "weights": "untrained",
        "contents": {"text": 1, "image": 1},
        "erasures_due": 0,
    }
    assert (await sidecar.call("GET", "/ready")).json == {"status": "ready"}


# the calls of existing clients


def _as_an_old_client(url: str, path: str, data: bytes, **query: str) -> bytes:
    """urllib sends the content type application/x-www-form-urlencoded with a raw body."""
    address = f"{url}/mv_retrieval/v0.1/{path}?{urlencode(query)}"
    request = urllib.request.Request(address, data, dict(AUTHORIZATION), method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert request.get_header("Content-type") == "application/x-www-form-urlencoded"
        body: bytes = response.read()
        return body


async def test_index(settings: Settings) -> None:
    async with running(replace(settings, index_dtype="float16")) as sidecar:
        await sidecar.add("a", b"one")
        reply = await sidecar.call("GET", "/index")
    rest = {"nprobe": None, "recall": None, "build": None, "snapshot": "none"}
    assert (reply.status, reply.json) == (
        200,
        {
            "text": {"kind": "exact", "size": 1, "memory_bytes": 1024, **rest},
            "image": {"kind": "exact", "size": 0, "memory_bytes": 0, **rest},
        },
    )


async def test_past_its_size_the_index_is_approximate_also_after_a_restart(settings: Settings) -> None:
    # Vectors of the fake model have no neighbourhoods: that anything is found by lists takes a modest target.
    settings = replace(settings, index_exact_rows=300, index_recall=0.05)
    async with running(settings) as sidecar:
        await asyncio.gather(*(sidecar.add(f"id {number}", b"text %d" % number) for number in range(400)))
        async with asyncio.timeout(60):
            done = {"kind": "approximate", "size": 400, "build": None, "snapshot": "written"}
            while not (state := (await sidecar.call("GET", "/index")).json["text"]).items() >= done.items():
                await asyncio.sleep(0.01)
        assert state["recall"]["text->text"] >= 0.05
    async with running(settings) as sidecar:
        assert (await sidecar.call("GET", "/index")).json["text"] == state
        for number in range(0, 400, 40):
            assert await sidecar.found(b"text %d" % number, k="1") == [f"id {number}"]
        await sidecar.call("DELETE", "/contents/id%200")
        assert "id 0" not in await sidecar.found(b"text 0", k="400")


async def test_the_historical_calls(sidecar: Sidecar) -> None:
    async def call(path: str, data: bytes, **query: str) -> Any:
        body = await asyncio.to_thread(_as_an_old_client, sidecar.url, path, data, **query)
        reply: Any = json.loads(body)
        assert reply.pop("time") >= 0
        return reply

    text, image, other = b"a=1&b=%20+c d", PNG + b"\r\n\x00=&", b"another text"
    assert await call("add_content", text, id="1", type="text", user="ann") == _added("1")
    assert await call("add_content", image, id="2", type="image") == _added("2", "image")
    assert await call("add_content", other, id="3", type="text") == _added("3")
    one = pytest.approx(1.0, abs=1e-5)
    query = (text, "text")
    assert await call("retrieve_contents", text, type="text", k="1") == {
        "text": {"contents": ["1"], "scores": [one]},
        "image": {"contents": ["2"], "scores": [_score(query, (image, "image"))]},
        "truncated": False,
    }
    assert await call("retrieve_contents", text, type="text", k="5", user="ann") == {
        "text": {"contents": ["3"], "scores": [_score(query, (other, "text"))]},
        "image": {"contents": ["2"], "scores": [_score(query, (image, "image"))]},
        "truncated": False,
    }
    found = await call("retrieve_contents", image, type="image", k="1")
    assert found["image"] == {"contents": ["2"], "scores": [one]}
