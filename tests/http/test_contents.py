"""Single contents, whatever their ids, are looked at and deleted over real HTTP."""

from __future__ import annotations

import time
from hashlib import sha256
from urllib.parse import urlencode

import pytest

from index_sidecar.settings import Settings

from ..support.answers import added
from ..support.fake_torchserve import PNG
from ..support.sidecar import Sidecar, path_of, running

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
        "original": True,
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
    assert (await sidecar.add("a", b"one")).json == added("a")


async def test_an_id_in_the_path_is_checked_too(sidecar: Sidecar) -> None:
    for path in ("/contents/" + "a" * 257, "/contents/a%0Ab", "/contents/%00"):
        assert (await sidecar.call("GET", path)).error == (400, "invalid_id")
        assert (await sidecar.call("DELETE", path)).error == (400, "invalid_id")


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
