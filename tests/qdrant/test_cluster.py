"""Sidecars on Qdrant over real HTTP: the routes on one node, several sidecars at once, and the death of a node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from index_sidecar.settings import Settings

from ..support.fake_torchserve import FINGERPRINT, PNG, FakeTorchServe
from ..support.qdrant_server import QdrantServers, start_servers, wait_for
from ..support.sidecar import Reply, Sidecar, SidecarProcess, path_of, running, serving


@contextlib.asynccontextmanager
async def sidecars(settings: Settings, count: int) -> AsyncIterator[list[Sidecar]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(settings)) for _ in range(count)]


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
        async with TestClient(serving(late)) as client:
            sidecar = Sidecar(client)
            await _refused_in_time(sidecar)
            node.start()
            await sidecar.wait_ready()
            assert (await sidecar.add("a", b"one")).status == 201
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


# three nodes, each shard on two of them


@dataclass
class Load:
    """Clients that add and ask through several sidecars until they are told to stop; a 503 is tried again."""

    sidecars: list[Sidecar]
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest_s: float = 0.0
    stopping: bool = False

    async def _timed(self, kind: str, call: Any) -> Reply:
        started = time.monotonic()
        reply: Reply = await call
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        self.statuses[kind, reply.status] += 1
        if reply.status == 503:
            assert reply.error == (503, "storage_unavailable")
            await asyncio.sleep(0.1)
        return reply

    async def add(self, client: int) -> None:
        number = 0
        while not self.stopping:
            content_id, data = f"{client}-{number}", b"text %d of client %d" % (number, client)
            sidecar = self.sidecars[client % len(self.sidecars)]
            reply = await self._timed("add", sidecar.add(content_id, data, user=f"client {client}"))
            if reply.status in (200, 201):
                self.acknowledged[content_id] = data
                number += 1

    async def ask(self, client: int) -> None:
        while not self.stopping:
            await asyncio.sleep(0.005)
            if self.acknowledged:
                content_id, data = next(reversed(self.acknowledged.items()))
                sidecar = self.sidecars[client % len(self.sidecars)]
                reply = await self._timed("ask", sidecar.retrieve(data, k="1"))
                if reply.status == 200:
                    # What one sidecar acknowledged, the other finds, whoever lives.
                    assert [hit["id"] for hit in reply.json["contents"]] == [content_id]

    async def until(self, more: int, seconds: float = 30) -> None:
        """Until so many more adds are acknowledged."""
        goal = len(self.acknowledged) + more
        async with asyncio.timeout(seconds):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.01)


async def test_a_node_is_killed_under_load_and_comes_back(
    settings: Settings, qdrant_cluster: QdrantServers, collection_name: str
) -> None:
    async with sidecars(qdrant_cluster.settings(settings, collection_name), 2) as two:
        load = Load(two)
        victim = qdrant_cluster.nodes[1]
        async with asyncio.TaskGroup() as group:
            for client in range(4):
                group.create_task(load.add(client))
                group.create_task(load.ask(client))
            await load.until(100)
            await asyncio.to_thread(victim.stop, signal.SIGKILL)
            killed, before = time.monotonic(), len(load.acknowledged)
            await load.until(1)
            print(f"first add acknowledged {time.monotonic() - killed:.2f} s after the kill, at {before}")
            await load.until(100)
            victim.start()
            await asyncio.to_thread(victim.wait)
            back = time.monotonic()
            await load.until(100)
            load.stopping = True
        print(f"{dict(load.statuses)}, slowest {load.slowest_s:.2f} s")
        assert {status for _, status in load.statuses} <= {200, 201, 503}
        unavailable = sum(count for (_, status), count in load.statuses.items() if status == 503)
        assert unavailable <= 0.05 * load.statuses.total()
        assert load.slowest_s < 10
        wait_for(lambda: _all_active(qdrant_cluster, collection_name), 60)
        print(f"all copies active {time.monotonic() - back:.1f} s after the node was back")
        await _nothing_is_lost(two[0], load.acknowledged)

        # The one that was dead has caught up: without another one, it still knows every content.
        other = qdrant_cluster.nodes[2]
        await asyncio.to_thread(other.stop, signal.SIGKILL)
        try:
            await _nothing_is_lost(two[1], load.acknowledged)
        finally:
            other.start()
            await asyncio.to_thread(other.wait)
    wait_for(lambda: _all_active(qdrant_cluster, collection_name), 60)


def _all_active(servers: QdrantServers, collection: str) -> bool:
    """Whether every node sees every copy of every shard alive."""
    for node in servers.nodes:
        if not node.answers("/readyz"):
            return False
        cluster = node.call("GET", f"/collections/{collection}/cluster")
        shards = cluster["local_shards"] + cluster["remote_shards"]
        if len(shards) != 6 or {shard["state"] for shard in shards} != {"Active"} or cluster["shard_transfers"]:
            return False
    return True


async def _nothing_is_lost(sidecar: Sidecar, acknowledged: dict[str, bytes]) -> None:
    turns = asyncio.Semaphore(8)

    async def found(data: bytes) -> tuple[str, bool]:
        async with turns, asyncio.timeout(30):
            while (reply := await sidecar.retrieve(data, k="1")).status == 503:
                await asyncio.sleep(0.1)
        (hit,) = reply.json["contents"]
        return hit["id"], hit["score"] > 0.9999

    answers = await asyncio.gather(*(found(data) for data in acknowledged.values()))
    assert answers == [(content_id, True) for content_id in acknowledged]
    assert len(answers) >= 300


async def test_a_node_that_hangs_holds_nobody_up_for_long(
    settings: Settings, qdrant_cluster: QdrantServers, collection_name: str
) -> None:
    wished = replace(qdrant_cluster.settings(settings, collection_name), qdrant_timeout_s=6)
    async with sidecars(wished, 2) as (one, other):
        for number in range(20):
            assert (await one.add(f"id {number}", b"%d" % number)).status == 201
        victim = qdrant_cluster.nodes[1]
        assert victim.process is not None
        os.kill(victim.process.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            replies = await asyncio.gather(*(each.retrieve(b"7", k="1") for each in (one, other)))
            assert time.monotonic() - started < 7
            for reply in replies:
                assert reply.status == 200 or reply.error == (503, "storage_unavailable")
        finally:
            os.kill(victim.process.pid, signal.SIGCONT)
        async with asyncio.timeout(30):
            while (await one.retrieve(b"7", k="1")).status != 200:
                await asyncio.sleep(0.1)
        assert await one.found(b"7", k="1") == ["id 7"]
