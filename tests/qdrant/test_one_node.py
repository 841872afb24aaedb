"""Sidecars on one Qdrant node over real HTTP: the routes, and a server that comes late and goes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from index_sidecar.settings import Settings

from ..support.fake_torchserve import FINGERPRINT, PNG, FakeTorchServe
from ..support.qdrant_server import QdrantServers, start_servers
from ..support.sidecar import AUTHORIZATION, Sidecar, SidecarProcess, path_of, running, serving, sidecars


@pytest.fixture
def on_qdrant(settings: Settings, qdrant: QdrantServers, collection_name: str) -> Settings:
    return qdrant.settings(settings, collection_name)


async def test_the_routes_of_the_product(on_qdrant: Settings, fake: FakeTorchServe) -> None:
    async with running(on_qdrant) as sidecar:
        assert (await sidecar.retrieve(b"q")).json == {"contents": [], "truncated": False}
        reply = await sidecar.add("a/?% 漢", b"one", user="ann")
        assert (reply.status, reply.json["status"], reply.json["duplicate_of"]) == (201, "added", [])
        reply = await sidecar.add("a/?% 漢", b"one", user="ann")
        assert (reply.status, reply.json["status"]) == (200, "unchanged")
        assert (await sidecar.add("b", b"one")).json["duplicate_of"] == ["a/?% 漢"]
        assert [request.data for request in fake.requests] == [b"ready?", b"q", b"one"]  # the same bytes: encoded once
        assert (await sidecar.add("c", PNG + b"c", "image", user="bob")).status == 201
        assert (await sidecar.add("c", PNG + b"d", "image", user="bob")).json["status"] == "replaced"

        content = (await sidecar.call("GET", path_of("a/?% 漢"))).json
        assert (content["type"], content["user"], content["truncated"]) == ("text", "ann", False)
        assert (await sidecar.found(b"one", k="2"))[:2] == ["a/?% 漢", "b"]
        assert "a/?% 漢" not in await sidecar.found(b"one", user="ann")
        each = (await sidecar.retrieve(b"one", target="each")).json
        assert (len(each["text"]["contents"]), each["image"]["contents"]) == (2, ["c"])
        assert await sidecar.found(PNG + b"d", "image", k="1") == ["c"]

        health = (await sidecar.call("GET", "/health")).json
        assert (health["ready"], health["storage"], health["model"]) == (True, "available", FINGERPRINT)
        await _counted(sidecar, {"text": 2, "image": 1})
        index = (await sidecar.call("GET", "/index")).json
        assert {name: (state["kind"], state["size"]) for name, state in index.items()} == {
            "text": ("approximate", 2),
            "image": ("approximate", 1),
        }
        preview = await sidecar.client.session.get(f"{sidecar.url}{path_of('b')}/preview")
        assert (preview.status, await preview.text()) == (200, "one")

        # Gone from every answer; from the disk when Qdrant rewrites the segment, of which nobody is told.
        reply = await sidecar.call("DELETE", "/contents/b")
        assert (reply.status, reply.json) == (200, {"overwritten": False})
        assert (await sidecar.call("DELETE", "/contents/b")).error == (404, "not_found")
        assert (await sidecar.call("DELETE", "/users/ann/contents")).json == {"deleted": 1, "overwritten": False}
        assert await sidecar.found(b"one") == ["c"]


async def test_pages_and_recommendations(on_qdrant: Settings) -> None:
    async with running(on_qdrant) as sidecar:
        adds = (sidecar.add(f"id {i}", b"%d" % i, user=("ann", "bob")[i % 2]) for i in range(60))
        assert {reply.status for reply in await asyncio.gather(*adds)} == {201}
        ids, after = [], None
        while True:
            query = {"limit": "7", **({"after": after} if after else {})}
            page = (await sidecar.call("GET", "/contents", params=query)).json
            ids += [content["id"] for content in page["contents"]]
            if (after := page["next"]) is None:
                break
        assert sorted(ids) == sorted(f"id {i}" for i in range(60))
        assert (await sidecar.call("GET", "/contents?after=1")).error == (400, "invalid_after")
        first = (await sidecar.call("POST", "/recommend?user=ann&k=5")).json["contents"]
        assert len(first) == 5
        assert {each["user"] for each in first} == {"bob"}
        assert (await sidecar.call("POST", "/recommend?user=ann&k=5")).json["contents"] == first


async def test_sidecars_on_one_cluster_see_each_other_at_once(on_qdrant: Settings) -> None:
    async with sidecars(on_qdrant, 2) as (one, other):
        for number in range(20):
            assert (await one.add("a", b"%d" % number)).status == (201 if number == 0 else 200)
            assert await other.found(b"%d" % number, k="1") == ["a"]
            assert (await other.add("a", b"%d" % number)).json["status"] == "unchanged"
        assert (await one.add("b", b"19")).json["duplicate_of"] == ["a"]
        assert (await other.call("DELETE", "/contents/a")).status == 200
        assert (await one.call("GET", "/contents/a")).status == 404
        assert await one.found(b"19") == ["b"]
        await _counted(one, {"text": 1, "image": 0})


async def _counted(sidecar: Sidecar, contents: dict[str, int]) -> None:
    """/health says so within seconds."""
    async with asyncio.timeout(10):
        while (await sidecar.call("GET", "/health")).json["contents"] != contents:
            await asyncio.sleep(0.05)


async def test_a_sidecar_with_another_model_does_not_start(
    on_qdrant: Settings, fake: FakeTorchServe, tmp_path: Path
) -> None:
    async with running(on_qdrant) as sidecar:
        await sidecar.add("a", b"one")
    fake.fingerprint = "clip-vit-b-32:openai:fedcba9876543210:p1"
    environment = {"INDEX_URL": on_qdrant.index_url, "QDRANT_API_KEY_FILE": str(on_qdrant.qdrant_api_key_file)}
    with SidecarProcess(tmp_path / "data", fake.url, fake.key_file, **environment) as process:
        assert await asyncio.to_thread(process.spawn().wait, 30) == 1
        last = process.log.read_text().splitlines()[-1]
    assert last.startswith("index_sidecar: cannot start: ")
    assert fake.fingerprint in last
    assert "INDEX_URL" in last


async def test_the_process_names_a_key_that_is_refused(on_qdrant: Settings, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong-key-marker")
    environment = {"INDEX_URL": on_qdrant.index_url, "QDRANT_API_KEY_FILE": str(tmp_path / "wrong")}
    key_file, url = on_qdrant.torchserve_key_file, on_qdrant.torchserve_url
    with SidecarProcess(tmp_path / "data", url, key_file, **environment) as sidecar:
        assert await asyncio.to_thread(sidecar.spawn().wait, 30) == 1
        last = sidecar.log.read_text().splitlines()[-1]
    assert last.startswith("index_sidecar: cannot start: Qdrant refuses to work for us (401")
    assert "QDRANT_API_KEY_FILE" in last
    assert "wrong-key-marker" not in sidecar.log.read_text()
    assert not (tmp_path / "data").exists()  # no local truth in this mode


@pytest.mark.servers
async def test_qdrant_may_come_late_and_go(settings: Settings, tmp_path: Path) -> None:
    servers = start_servers(tmp_path / "qdrant", 1)
    (node,) = servers.nodes
    try:
        node.stop()
        late = replace(servers.settings(settings, "contents"), qdrant_timeout_s=1)
        async with TestClient(serving(late), headers=AUTHORIZATION) as client:
            sidecar = Sidecar(client)
            await _refused_in_time(sidecar)
            node.start()
            await sidecar.wait_ready()
            async with asyncio.timeout(30):  # a second may be too short for making the collection
                while (reply := await sidecar.add("a", b"one")).status == 503:
                    await asyncio.sleep(0.1)
            assert reply.status in (200, 201)  # 200 where the try before was done after all
            node.stop()
            await _refused_in_time(sidecar)
            node.start()
            await sidecar.wait_ready()
            assert await sidecar.found(b"one") == ["a"]
    finally:
        servers.stop()


async def _refused_in_time(sidecar: Sidecar) -> None:
    started = time.monotonic()
    calls = (
        sidecar.call("GET", "/ready"),
        sidecar.add("a", b"one"),
        sidecar.retrieve(b"one"),
        sidecar.call("GET", "/contents/a"),
        sidecar.call("DELETE", "/contents/a"),
        sidecar.call("GET", "/index"),
    )
    for reply in await asyncio.gather(*calls):
        assert reply.error == (503, "storage_unavailable")
        assert reply.headers["Retry-After"] == "2"
    health = await sidecar.call("GET", "/health")
    assert (health.status, health.json["ready"], health.json["storage"]) == (200, False, "unavailable")
    assert health.json["contents"] is None
    assert time.monotonic() - started < 5
