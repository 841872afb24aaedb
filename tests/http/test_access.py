"""API keys over HTTP: whose they are, what a bound one may, what refusals tell, and limits."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.keys import asking, key
from ..support.sidecar import Reply, running


async def test_what_refuses_tells_nothing_of_what_is_stored(locked: Settings) -> None:
    admin, reader = key(locked, Role.ADMIN), key(locked, Role.READER)
    async with asking(locked) as (_, ask):
        await ask("POST", "/add_content?id=there&type=text", admin, b"x")
        for with_key in (None, reader, "clipk_" + "0" * 38):
            here, nowhere = [await ask("DELETE", f"/contents/{each}", with_key) for each in ("there", "nowhere")]
            assert here.error == nowhere.error
            assert here.json["error"]["message"] == nowhere.json["error"]["message"]


async def test_the_scheme_has_no_case_and_the_key_has(locked: Settings) -> None:
    reader = key(locked, Role.READER)
    async with running(locked) as sidecar:
        for value, status in [
            (f"Bearer {reader}", 200),
            (f"bearer {reader}", 200),
            (f"BEARER  {reader}", 200),
            (f"Bearer {reader.swapcase()}", 401),
            (f"Basic {reader}", 401),
            (reader, 401),
            ("Bearer", 401),
        ]:
            reply = await sidecar.call("GET", "/contents", headers={"Authorization": value})
            assert reply.status == status, value
            assert ("WWW-Authenticate" in reply.headers) == (status == 401)


async def test_a_bound_key_acts_as_its_user(locked: Settings) -> None:
    ada, anybody = key(locked, Role.WRITER, "ada"), key(locked, Role.ADMIN)
    async with asking(locked) as (_, ask):
        assert (await ask("POST", "/add_content?id=mine&type=text", ada, b"one")).status == 201
        assert (await ask("GET", "/contents/mine", ada)).json["user"] == "ada"
        assert (await ask("POST", "/add_content?id=x&type=text&user=grace", ada, b"x")).error == (403, "forbidden")
        await ask("POST", "/add_content?id=hers&type=text&user=grace", anybody, b"two")
        assert (await ask("POST", "/add_content?id=hers&type=text", ada, b"three")).error == (403, "forbidden")
        assert (await ask("DELETE", "/contents?id=hers", ada)).error == (403, "forbidden")
        assert (await ask("DELETE", "/users/grace/contents", ada)).error == (403, "forbidden")
        assert (await ask("GET", "/contents/hers", ada)).json["user"] == "grace"
        recommended = (await ask("POST", "/recommend", ada)).json["contents"]
        assert [(each["id"], each["because"]["id"]) for each in recommended] == [("hers", "mine")]
        assert (await ask("DELETE", "/users/ada/contents", ada)).json == {"deleted": 1}


async def test_health_tells_strangers_nothing(locked: Settings) -> None:
    reader = key(locked, Role.READER)
    async with asking(locked) as (_, ask):
        assert (await ask("GET", "/health")).json == {"status": "ok"}
        assert "contents" in (await ask("GET", "/health", reader)).json


async def test_wrong_keys_are_limited_and_never_logged(locked: Settings, caplog: pytest.LogCaptureFixture) -> None:
    reader = key(locked, Role.READER)
    async with asking(locked) as (_, ask):
        replies = [await ask("GET", "/contents", f"clipk_{number:038}") for number in range(25)]
        assert [reply.status for reply in replies] == [401] * 20 + [429] * 5
        assert (await ask("GET", "/contents", reader)).status == 200  # a good key is never locked out
    assert sum("API key was refused" in record.message for record in caplog.records) == 20
    assert "clipk_0" not in caplog.text


async def test_requests_are_limited_by_key(locked: Settings) -> None:
    settings = replace(locked, rate_limit="3/hour")
    one, other = key(settings, Role.READER, name="one"), key(settings, Role.READER, name="other")
    async with asking(settings) as (_, ask):
        replies = [await ask("GET", "/contents", one) for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429]
        assert [reply.headers.get("RateLimit", "").partition(";t=")[0] for reply in replies[:3]] == [
            *('"requests";r=2', '"requests";r=1', '"requests";r=0')
        ]
        assert replies[3].headers["RateLimit"].startswith('"requests";r=0;t=')
        assert replies[0].headers["RateLimit-Policy"] == '"requests";q=3;w=3600'
        assert 3500 < int(replies[3].headers["Retry-After"]) <= 3600
        assert (await ask("GET", "/contents", other)).status == 200


async def test_a_picture_counts_as_eight_texts(locked: Settings) -> None:
    settings = replace(locked, model_rate_limit="9/hour")
    one = key(settings, Role.READER)
    async with asking(settings) as (_, ask):
        assert (await ask("POST", "/retrieve?type=image", one, b"no picture")).status == 415
        assert (await ask("POST", "/retrieve?type=text", one, b"a text")).status == 200
        assert (await ask("POST", "/retrieve?type=text", one, b"a text")).error == (429, "too_many_requests")


async def test_the_parts_of_a_question_count_together_or_not_at_all(locked: Settings) -> None:
    settings = replace(locked, model_rate_limit="10/hour")
    one = key(settings, Role.READER)
    async with running(settings) as sidecar:

        async def search(*query: dict[str, str]) -> Reply:
            form = aiohttp.FormData()
            form.add_field("search", json.dumps({"query": query}), content_type="application/json")
            for part in {each["part"] for each in query if "part" in each}:
                form.add_field(part, PNG + b"pixels", filename="picture.png")
            return await sidecar.call("POST", "/search", form, headers={"Authorization": f"Bearer {one}"})

        assert (await search({"text": "a cat"}, {"part": "picture"})).headers["RateLimit"].startswith('"model";r=1;')
        assert (await search({"text": "a cat"}, {"text": "a dog"})).error == (429, "too_many_requests")
        assert (await search({"text": "a cat"})).headers["RateLimit"].startswith('"model";r=0;')
        refused = await search({"text": "a cat"})
        assert refused.error == (429, "too_many_requests")
        assert refused.headers["RateLimit"].startswith('"model";r=0;')


async def test_requests_at_once_are_limited_by_key(locked: Settings, fake: FakeTorchServe) -> None:
    settings = replace(locked, concurrent_requests=2)
    one = key(settings, Role.READER)
    fake.delay_s = 0.3
    async with asking(settings) as (_, ask):
        asked = [ask("POST", "/retrieve?type=text", one, f"text {number}".encode()) for number in range(4)]
        statuses = sorted([reply.status for reply in await asyncio.gather(*asked)])
        assert statuses == [200, 200, 429, 429]


async def test_erasures_are_on_record(locked: Settings, caplog: pytest.LogCaptureFixture) -> None:
    writer = key(locked, Role.WRITER, name="backend")
    caplog.set_level("INFO")
    async with asking(locked) as (_, ask):
        for name in ("one", "two"):
            await ask("POST", f"/add_content?id={name}&type=text&user=ada", writer, name.encode())
        await ask("DELETE", "/contents/one", writer)
        await ask("DELETE", "/users/ada/contents", writer)
    lines = [record for record in caplog.records if record.name == "index_sidecar.audit"]
    assert [(line.message, vars(line)["key"], vars(line)["count"]) for line in lines] == [
        ("content erased", "backend", 1),
        ("contents of a user erased", "backend", 1),
    ]
    assert not any("id" in vars(line) for line in lines)


async def test_an_unreadable_file_of_keys_opens_nothing(locked: Settings, tmp_path: Path) -> None:
    locked.path_of_keys.parent.mkdir(exist_ok=True)
    locked.path_of_keys.write_text("{")
    with pytest.raises(Exception, match="is no file of keys"):
        async with running(locked):
            pass
