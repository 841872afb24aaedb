"""GET /export: each content once, as a line; it can be asked on for, holds a page at a time, and says how it ended."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from clip_archive import AsyncArchive, Item, Patience
from clip_archive.exporting import Export
from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.archive.content import Page
from index_sidecar.archive.errors import StorageUnavailable
from index_sidecar.archive.exporter import Exporter
from index_sidecar.http.export import EXPORTER, export
from index_sidecar.http.guard import GUARD, Guard
from index_sidecar.http.query import read_query
from index_sidecar.http.routes import CALLS
from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore

from ..support import contract
from ..support.contents import content_of
from ..support.fake_torchserve import FINGERPRINT, PNG
from ..support.fake_vectors import vector_of
from ..support.sidecar import BEARER, Sidecar, running, with_keys

(CALL,) = [call for call in CALLS if call.operation == "export"]


async def exported(sidecar: Sidecar, query: str = "", **headers: str) -> list[Any]:
    """The lines."""
    url = f"{sidecar.url}/export{query}"
    async with sidecar.client.session.get(url, headers=headers) as response:
        body = await response.read()
        contract.check("GET", "/export", response.status, response.headers.items(), body)
        assert response.status == 200, body
        assert response.headers["X-Accel-Buffering"] == "no"
        return [json.loads(line) for line in body.splitlines()]


async def test_each_is_a_line_and_the_last_one_counts(sidecar: Sidecar) -> None:
    assert await exported(sidecar) == [{"summary": {"contents": 0}}]
    await sidecar.add("a", "text one", user="ann", metadata='{"n": 1}')
    await sidecar.add("b", PNG + b"pixels", "image")
    first, second, last = await exported(sidecar, "?vectors=true&previews=true")
    assert first.pop("created") == pytest.approx(second.pop("created"), abs=60)
    vectors = [base64.b64decode(each.pop("vector")) for each in (first, second)]
    assert vectors == [vector_of(b"text one", "text").tobytes(), vector_of(PNG + b"pixels", "image").tobytes()]
    told = {"id": "a", "type": "text", "user": "ann", "truncated": False, "metadata": {"n": 1}, "model": FINGERPRINT}
    preview = base64.b64encode(b"text one").decode()
    assert first == {**told, "sha256": hashlib.sha256(b"text one").hexdigest(), "preview": preview}
    assert (second["id"], last) == ("b", {"summary": {"contents": 2}})
    assert [each.get("id") for each in await exported(sidecar, "?type=image")] == ["b", None]
    assert "vector" not in (await exported(sidecar))[0]
    assert (await sidecar.call("GET", "/export?after=x")).error == (400, "invalid_after")


async def test_it_goes_on_behind_a_cursor(sidecar: Sidecar) -> None:
    async with AsyncArchive(sidecar.url, key=BEARER["Authorization"].removeprefix("Bearer ")) as archive:
        await archive.add_contents(Item(f"{number:03}", f"text {number}") for number in range(250))
    lines = await exported(sidecar)
    cursors = [each["after"] for each in lines if "after" in each]
    assert len(cursors) == 2
    ids = [each["id"] for each in lines if "id" in each]
    assert sorted(ids) == [f"{number:03}" for number in range(250)]
    rest = await exported(sidecar, f"?after={cursors[1]}")
    assert [each["id"] for each in rest if "id" in each] == ids[200:]
    taken = Export()
    kept = [taken.take(json.dumps(line).encode()) for line in lines[:130]]  # breaks off
    assert taken.call().query == {"after": cursors[0]}
    kept += [taken.take(json.dumps(line).encode()) for line in await exported(sidecar, f"?after={cursors[0]}")]
    assert [each.id for each in kept if each is not None] == ids
    assert taken.done


class Stumbling(SqliteStore):
    """A store whose disk is away once, when a second page is asked for."""

    stumbled = False

    async def page(self, *options: Any, **more: Any) -> Page:
        if options[3] is not None and not self.stumbled:
            self.stumbled = True
            raise StorageUnavailable("the disk is away")
        return await super().page(*options, **more)


async def test_what_goes_wrong_midway_is_said_and_a_client_goes_on(tmp_path: Path) -> None:
    store = Stumbling(tmp_path / "contents.sqlite")
    for number in range(150):
        await store.put(content_of(f"{number:03}", b"%d" % number))
    app = web.Application()
    app[GUARD], app[EXPORTER] = Guard(None, ()), Exporter(store)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await export(request, read_query(request, "/export", CALL.takes, False))

    app.router.add_get("/export", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        async with aiohttp.ClientSession() as session, session.get(f"{url}/export") as response:
            lines = [json.loads(line) for line in (await response.read()).splitlines()]
        assert lines[-1]["error"]["code"] == "storage_unavailable"
        store.stumbled = False
        async with AsyncArchive(url, patience=Patience(pause_s=0.01)) as archive:
            assert [each.id async for each in archive.export()] == [f"{number:03}" for number in range(150)]
    await store.close()


async def test_only_an_admin_takes_all(settings: Settings) -> None:
    settings = with_keys(settings)
    key = add_key(settings.path_of_keys, "writer", Role.WRITER, None, None)
    async with running(settings) as sidecar:
        reply = await sidecar.call("GET", "/export", headers={"Authorization": f"Bearer {key}"})
        assert reply.error == (403, "forbidden")
        assert await exported(sidecar, **BEARER) == [{"summary": {"contents": 0}}]


async def test_a_caller_who_leaves_ends_it(settings: Settings) -> None:
    async with running(replace(settings, access="open")) as sidecar:
        async with AsyncArchive(sidecar.url) as archive:
            await archive.add_contents(Item(f"{number:03}", f"text {number}") for number in range(300))
            found = archive.export(vectors=True)
            assert (await anext(found)).vector is not None
            await found.aclose()
        await asyncio.sleep(0.1)
        assert (await exported(sidecar))[-1] == {"summary": {"contents": 300}}
