"""A node whose machine vanishes with its address: connections to it hang, and nobody is told anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from index_sidecar.settings import Settings

from ..support.machines import Machine, machines
from ..support.qdrant_server import QdrantServers, start_servers
from ..support.sidecar import Reply, Sidecar, running

pytestmark = pytest.mark.servers


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[QdrantServers, list[Machine]]]:
    with machines(3) as here:
        servers = start_servers(tmp_path / "qdrant", 3, on=here)
        yield servers, here
        servers.stop()


@dataclass
class Calls:
    """Clients that call without a pause worth the name, and what they saw, by kind: status and seconds."""

    seen: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    stopping: bool = False

    async def keep(self, kind: str, call: Callable[[], Awaitable[Reply]], pause_s: float) -> None:
        while not self.stopping:
            started = time.monotonic()
            reply = await call()
            self.seen.setdefault(kind, []).append((reply.status, time.monotonic() - started))
            await asyncio.sleep(pause_s)

    def slowest_s(self, kind: str) -> float:
        return max(seconds for _, seconds in self.seen[kind])

    def statuses(self, kind: str) -> set[int]:
        return {status for status, _ in self.seen[kind]}


async def test_a_node_that_vanishes_holds_up_no_search_and_fails_no_add(
    three: tuple[QdrantServers, list[Machine]], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    servers, here = three
    wished = replace(servers.settings(settings, "contents"), qdrant_timeout_s=30)
    async with running(wished) as one, running(wished) as other:
        numbers = iter(range(10**6))
        added: list[tuple[str, bytes]] = []

        def add(sidecar: Sidecar) -> Callable[[], Awaitable[Reply]]:
            async def call() -> Reply:
                number = next(numbers)
                reply = await sidecar.add(f"id {number}", b"%d" % number)
                added.append((f"id {number}", b"%d" % number))
                return reply

            return call

        assert (await add(one)()).status == 201
        calls = Calls()
        async with asyncio.TaskGroup() as group:
            for sidecar in (one, other):
                group.create_task(calls.keep("add", add(sidecar), 0.02))
                group.create_task(calls.keep("add", add(sidecar), 0.02))
                group.create_task(calls.keep("search", lambda s=sidecar: s.retrieve(b"0", k="3"), 0.02))  # type: ignore[misc]
                group.create_task(calls.keep("ready", lambda s=sidecar: s.call("GET", "/ready"), 0.1))  # type: ignore[misc]
            await asyncio.sleep(2)
            calm_s = max(calls.slowest_s("search"), calls.slowest_s("ready"))
            here[2].vanish()
            await asyncio.sleep(15)  # Qdrant takes up to 9 to call it dead
            here[2].come_back()
            await asyncio.sleep(3)
            calls.stopping = True
        for kind, seen in calls.seen.items():
            print(f"{kind}: {len(seen)} calls, slowest {calls.slowest_s(kind):.2f} s, statuses {calls.statuses(kind)}")
        assert calls.statuses("search") == calls.statuses("ready") == {200}
        assert calls.statuses("add") == {201}
        # What a node that is gone costs, and on a machine that is slow what a call may cost without that.
        assert calls.slowest_s("search") < 4 + 5 * calm_s
        assert calls.slowest_s("ready") < 2 + 5 * calm_s
        for content_id, data in added:
            assert await other.found(data, k="1") == [content_id]
    # The two that live are never called failing for what the third does.
    failing = [record.getMessage() for record in caplog.records if " fails: " in record.getMessage()]
    assert all(here[2].address in message for message in failing), failing
