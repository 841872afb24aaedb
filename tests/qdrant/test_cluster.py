"""Sidecars on three Qdrant nodes, each shard on two of them: one dies under load, one hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from index_sidecar.settings import Settings

from ..support.qdrant_server import QdrantServers, wait_for
from ..support.sidecar import Reply, Sidecar, sidecars


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
