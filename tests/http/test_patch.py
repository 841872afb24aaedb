"""PATCH of a content's metadata: whose it may be, what it may hold of memory and time, and what is on record."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace

import pytest

from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.sidecar import Reply, Sidecar, running, with_keys
from ..support.wire import request

TITLE = b'{"title": "a title"}'


async def _patch(sidecar: Sidecar, content_id: str, body: bytes = TITLE, key: str | None = None) -> Reply:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return await sidecar.call("PATCH", f"/contents?id={content_id}", body, headers=headers)


async def test_a_bound_key_changes_only_its_users(settings: Settings) -> None:
    settings = with_keys(settings)
    ada = add_key(settings.path_of_keys, "ada", Role.WRITER, "ada", None)
    admin = add_key(settings.path_of_keys, "admin", Role.ADMIN, "ada", None)
    async with running(settings) as sidecar:
        for user in ("ada", "grace"):
            await sidecar.add(f"of-{user}", b"a text", user=user)
        await sidecar.add("nobodys", b"a text")
        assert (await _patch(sidecar, "of-ada", key=ada)).json["metadata"] == {"title": "a title"}
        for other in ("of-grace", "nobodys"):
            assert (await _patch(sidecar, other, key=ada)).error == (403, "forbidden")
            assert (await sidecar.call("GET", f"/contents/{other}")).json["metadata"] == {}
        assert (await _patch(sidecar, "of-grace", key=admin)).status == 200


async def test_who_may_not_change_learns_nothing_of_what_is_there(settings: Settings) -> None:
    settings = with_keys(settings)
    reader = add_key(settings.path_of_keys, "reader", Role.READER, None, None)
    async with running(settings) as sidecar:
        await sidecar.add("there", b"a text")
        for path in ("/contents/{}", "/contents?id={}"):
            for key in (reader, "clipk_" + "0" * 38):
                headers = {"Authorization": f"Bearer {key}"}
                here, nowhere = [
                    await sidecar.call("PATCH", path.format(each), TITLE, headers=headers) for each in ("there", "no")
                ]
                assert here.status in (401, 403)
                assert here.error == nowhere.error
                assert here.json["error"]["message"] == nowhere.json["error"]["message"]
        # What is wrong with a patch is told before its content is looked up.
        bad = [await _patch(sidecar, each, b"[") for each in ("there", "no")]
        assert [each.error for each in bad] == [(400, "invalid_metadata")] * 2


async def test_only_what_changed_something_is_on_record(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(settings) as sidecar:
        await sidecar.add("a", b"a text")
        for body in (TITLE, TITLE, b"{}", b'{"nothing": null}', b'{"title": null}'):
            assert (await _patch(sidecar, "a", body)).status == 200
        assert (await _patch(sidecar, "b")).status == 404
    lines = [record for record in caplog.records if record.name == "index_sidecar.audit"]
    assert [record.message for record in lines] == ["metadata changed"] * 2


async def test_its_body_counts_as_every_other(settings: Settings) -> None:
    """A body that arrives fast holds all memory but 4 KB: there is none for a patch of 6, until it is given back."""
    most = 1 << 20
    settings = replace(settings, max_inflight_bytes=most, max_image_bytes=most, max_text_bytes=1 << 16)
    long = b'{"title": "%s"}' % (b"x" * 1000) + b" " * 5000
    async with running(settings) as sidecar:
        await sidecar.add("a", b"a text")
        _, writer = await asyncio.open_connection("127.0.0.1", sidecar.client.port)
        writer.write(request("/add_content?id=b&type=image", None, f"Content-Length: {most}") + b"x" * (most - 4096))
        await asyncio.sleep(0.3)
        assert (await _patch(sidecar, "a", long)).error == (503, "overloaded")
        assert (await _patch(sidecar, "a")).status == 200
        writer.close()
        async with asyncio.timeout(5):
            while (await _patch(sidecar, "a", long)).status == 503:
                await asyncio.sleep(0.01)


async def test_one_that_does_not_come_ends_in_time(settings: Settings) -> None:
    async with running(replace(settings, body_idle_s=1)) as sidecar:
        await sidecar.add("a", b"a text")
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.client.port)
        writer.write(request("/contents?id=a", None, "Content-Length: 20", method="PATCH") + TITLE[:5])
        async with asyncio.timeout(5):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_who_asks_first_is_told_to_send_it(settings: Settings) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"a text")
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.client.port)
        head = request("/contents?id=a", None, f"Content-Length: {len(TITLE)}", "Expect: 100-continue", method="PATCH")
        writer.write(head)
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(TITLE)
            assert b" 200 " in await reader.readline()
        writer.close()


async def test_it_may_come_compressed(settings: Settings) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"a text")
        for encoding, body, status in (("gzip", gzip.compress(TITLE), 200), ("gzip", TITLE, 400), ("br", TITLE, 415)):
            reply = await sidecar.call("PATCH", "/contents?id=a", body, headers={"Content-Encoding": encoding})
            assert reply.status == status
