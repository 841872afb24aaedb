"""Pages of other origins, and other names of this host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.keys import key
from ..support.sidecar import running


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost", 200),
        ("LOCALHOST.:8090", 200),
        ("[::1]:8090", 200),
        ("archive.localhost", 200),
        ("sidecar:8090", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8090", 421),
        ("192.168.1.5", 421),
        ("", 421),
    ],
)
async def test_an_open_archive_serves_its_own_names_only(settings: Settings, host: str, status: int) -> None:
    async with running(replace(settings, access="open", allowed_hosts=("sidecar",))) as sidecar:
        reply = await sidecar.call("GET", "/contents", headers={"Host": host})
        assert reply.status == status
        assert (await sidecar.call("GET", "/ready", headers={"Host": host})).status == 200
        if status == 421:
            assert reply.error == (421, "unknown_host")


async def test_with_keys_any_name_will_do(locked: Settings) -> None:
    reader = key(locked, Role.READER)
    async with running(locked) as sidecar:
        headers = {"Host": "archive.example.org", "Authorization": f"Bearer {reader}"}
        assert (await sidecar.call("GET", "/contents", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({}, True),  # no browser
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost:1"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://good.example"}, True),
    ],
)
@pytest.mark.parametrize(
    "call", ["POST /add_content?id=x&type=text", "DELETE /contents?id=there", "POST /recommend?user=u"]
)
async def test_foreign_pages_change_nothing(
    settings: Settings, headers: dict[str, str], let_in: bool, call: str
) -> None:
    method, path = call.split()
    async with running(replace(settings, cors_origins=("https://good.example",))) as sidecar:
        await sidecar.add("there", b"a text")
        reply = await sidecar.call(method, path, b"hello" if "add" in path else None, headers=headers)
        if let_in:
            assert reply.status in (200, 201, 204)
        else:
            assert reply.error == (403, "foreign_origin")
            assert [each["id"] for each in (await sidecar.call("GET", "/contents")).json["contents"]] == ["there"]


async def test_cors_is_closed(settings: Settings) -> None:
    async with running(settings) as sidecar:
        reply = await sidecar.call("GET", "/contents", headers={"Origin": "https://good.example"})
        assert "Access-Control-Allow-Origin" not in reply.headers
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Server"] == "clip-archive"  # and nothing of libraries and their versions
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_cors_opens_for_an_origin_also_where_something_is_wrong(locked: Settings) -> None:
    settings = replace(locked, cors_origins=("https://good.example",), rate_limit="2/hour")
    one = key(settings, Role.READER)
    async with running(settings) as sidecar:
        origin = {"Origin": "https://good.example"}
        preflight = {
            **origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        reply = await sidecar.call("OPTIONS", "/retrieve", headers=preflight)
        assert (reply.status, "Authorization" in reply.headers["Access-Control-Allow-Headers"]) == (204, True)
        good = {**origin, "Authorization": f"Bearer {one}"}
        for headers, path, status in [
            (origin, "/contents", 401),
            (good, "/contents", 200),
            (good, "/nowhere", 404),
            (good, "/contents", 429),
        ]:
            reply = await sidecar.call("GET", path, headers=headers)
            assert reply.status == status
            assert reply.headers["Access-Control-Allow-Origin"] == "https://good.example"
            assert "Origin" in reply.headers["Vary"]
            assert "Retry-After" in reply.headers["Access-Control-Expose-Headers"]
        other = await sidecar.call("OPTIONS", "/retrieve", headers={**preflight, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers
