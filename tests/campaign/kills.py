"""kill -9 at any moment, under load."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from .findings import Row
from .servers import bench

PART = "kills"


async def kill_sidecar(
    folder: Path, rounds: int, seed: int, tell: Callable[[], None], within_s: float = math.inf
) -> Row:
    """Kill it amid the load, some times also amid the start that follows; compare whole after every start.

    Fewer rounds than asked for where they take longer than `within_s`.
    """
    numbers, began = random.Random(seed), time.monotonic()
    slowest, cut, acknowledged, done = 0.0, 0, 0, 0
    async with bench(folder) as it:
        await it.fake.become(delay_s=0.002)
        for number in range(rounds):
            if time.monotonic() - began > within_s:
                break
            done += 1
            load = it.load(seed + number)
            async with load:
                await asyncio.sleep(numbers.uniform(0.02, 0.5))
                await it.stop(signal.SIGKILL)
            cut += bool(load.unanswered)
            if numbers.random() < 0.2:
                it.sidecar.spawn()
                await asyncio.sleep(numbers.uniform(0.1, 1.2))
                await it.stop(signal.SIGKILL)
            slowest = max(slowest, await it.start())
            it.findings.add(load.findings)
            await it.compare(number)
            tell()
        await it.compare(rounds, files=True)
        acknowledged = it.ledger.acknowledged
        figures: dict[str, float | int | str] = {"writes acknowledged": acknowledged, "rounds that cut requests": cut}
    return Row(PART, "kill -9 of the sidecar under mixed load", done, it.findings, slowest, figures)


async def kill_torchserve(folder: Path, rounds: int, seed: int, tell: Callable[[], None]) -> Row:
    """Kill what computes the vectors, and start it anew: another process with another key."""
    numbers, slowest = random.Random(seed), 0.0
    async with bench(folder) as it:
        for number in range(rounds):
            load = it.load(seed + number)
            async with load:
                await asyncio.sleep(numbers.uniform(0.05, 0.3))
                it.fake.kill()
                await asyncio.sleep(numbers.uniform(0.05, 0.5))
                await it.fake.start()
                slowest = max(slowest, await it.recovered())
            it.findings.add(load.findings)
            await it.compare(number)
            tell()
    return Row(PART, "kill -9 of a fake TorchServe under mixed load", rounds, it.findings, slowest)
