"""A node whose machine vanishes with its address: connections to it hang, and nobody is told anything.

How fast the others work on is told by how much they do, compared with the time before: the machine may be slow.
"""

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


_BEFORE_S = 1.5
_TURN_S = 0.5  # that this process waits for its turn: then a living node may seem to be gone


@dataclass
class Calls:
    """Clients that call without a pause worth the name, and what they saw, by kind: status, start and seconds."""

    seen: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    latest_turn_s: float = 0.0
    stopping: bool = False

    async def keep(self, kind: str, call: Callable[[], Awaitable[Reply]], pause_s: float) -> None:
        while not self.stopping:
            started = time.monotonic()
            reply = await call()
            self.seen.setdefault(kind, []).append((reply.status, started, time.monotonic() - started))
            await asyncio.sleep(pause_s)

    async def watch_turns(self) -> None:
        while not self.stopping:
            due = time.monotonic() + 0.05
            await asyncio.sleep(0.05)
            self.latest_turn_s = max(self.latest_turn_s, time.monotonic() - due)

    async def begun_after(self, moment: float, kind: str, count: int) -> None:
        """Until so many calls are answered that began after it."""
        while sum(started > moment for _, started, _ in self.seen[kind]) < count:
            await asyncio.sleep(0.05)

    def a_second(self, kind: str, since: float, until: float) -> float:
        return sum(since <= started < until for _, started, _ in self.seen[kind]) / (until - since)

    def slowest_s(self, kind: str) -> float:
        return max(seconds for _, _, seconds in self.seen[kind])

    def statuses(self, kind: str) -> set[int]:
        return {status for status, _, _ in self.seen[kind]}


async def test_a_node_that_vanishes_holds_up_no_search_and_fails_no_add(
    three: tuple[QdrantServers, list[Machine]], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    servers, here = three
    wished = replace(servers.settings(settings, "contents"), qdrant_timeout_s=60, torchserve_timeout_s=30)
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
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(calls.watch_turns())
            for sidecar in (one, other):
                group.create_task(calls.keep("add", add(sidecar), 0.1))
                group.create_task(calls.keep("add", add(sidecar), 0.1))
                group.create_task(calls.keep("search", lambda s=sidecar: s.retrieve(b"0", k="3"), 0.02))  # type: ignore[misc]
                group.create_task(calls.keep("ready", lambda s=sidecar: s.call("GET", "/ready"), 0.1))  # type: ignore[misc]
            await asyncio.sleep(_BEFORE_S)
            here[2].vanish()
            vanished = time.monotonic()
            # All shards take writes again when each of three was met by chance, in as many adds as there are here.
            await calls.begun_after(vanished, "add", 40)
            back = time.monotonic()
            here[2].come_back()
            await calls.begun_after(back, "add", 20)
            calls.stopping = True
        for kind, seen in calls.seen.items():
            speeds = calls.a_second(kind, began, vanished), calls.a_second(kind, vanished, back)
            print(
                f"{kind}: {len(seen)} calls, {speeds[0]:.1f}/s before and {speeds[1]:.1f}/s without the node, "
                f"slowest {calls.slowest_s(kind):.2f} s, statuses {calls.statuses(kind)}"
            )
        print(f"gone for {back - vanished:.1f} s; the latest turn {calls.latest_turn_s:.2f} s")
        assert calls.statuses("ready") == {200}
        assert calls.statuses("search") == {200}
        assert calls.statuses("add") == {201}
        # Each is held up for a second or two of the nine or so until writes go on, not for all of them.
        for kind in ("search", "ready"):
            assert calls.a_second(kind, vanished, back) > calls.a_second(kind, began, vanished) / 5
        for content_id, data in added:
            assert await other.found(data, k="1") == [content_id]
    failing = [record.getMessage() for record in caplog.records if " fails: " in record.getMessage()]
    # The two that live are never called failing for what the third does.
    if calls.latest_turn_s < _TURN_S:
        assert all(here[2].address in message for message in failing), failing
