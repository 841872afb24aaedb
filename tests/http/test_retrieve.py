"""What is found, in which shape, over real HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ..support.answers import score_of
from ..support.fake_torchserve import PNG
from ..support.sidecar import Sidecar


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
        "t2": {"id": "t2", "type": "text", "user": None, "score": score_of(query, dog), "relevance": None},
        "i1": {"id": "i1", "type": "image", "user": None, "score": score_of(query, picture), "relevance": None},
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
