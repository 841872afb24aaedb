"""The mixed load for a long time, with a fault from time to time: nothing is lost, and nothing grows."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from .faults import MODEL_FAULTS
from .findings import Row
from .servers import FakeBench, Resources, bench

PART = "soak"
_FAULT_S = 2.0
# Known queries are kept in up to 64 MB by default, which would grow for hours: here they are at their bound in minutes.
_SETTINGS = {"TORCHSERVE_TIMEOUT_S": "1", "ERASE_WAIT_S": "1", "QUERY_CACHE_BYTES": "1000000"}
_MEMORY_RISE = 0.05  # of what is held, over the second half: what is above is a leak
_MEMORY_RISE_MB = 12.0  # ... and for short runs this much


async def soak(folder: Path, seconds: float, fault_every_s: float, seed: int, tell: Callable[[], None]) -> Row:
    """One sidecar through it all; after each fault everything is compared, and what it holds is noted at rest."""
    numbers, notes, slowest, faults = random.Random(seed), list[Resources](), 0.0, 0
    began = time.monotonic()
    async with bench(folder, **_SETTINGS) as it:
        kinds = [*MODEL_FAULTS, "the model is killed", "a foreign reader", "callers leave"]
        while time.monotonic() - began < seconds:
            load = it.load(seed + faults, pause_s=0.005)
            async with load:
                await asyncio.sleep(fault_every_s - _FAULT_S if fault_every_s > 2 * _FAULT_S else fault_every_s / 2)
                await _fault(it, numbers.choice(kinds))
                slowest = max(slowest, await it.recovered())
            it.findings.add(load.findings)
            if load.unanswered:
                it.findings.wrong.append(f"{len(load.unanswered)} requests got no answer")
            slowest = max(slowest, await it.compare(faults, files=True))
            faults += 1
            notes.append(it.resources())
            tell()
        figures = _slopes(it, notes)
        figures |= {"seconds": round(time.monotonic() - began), "writes acknowledged": it.ledger.acknowledged}
    return Row(PART, "mixed load with a fault from time to time", faults, it.findings, slowest, figures)


async def _fault(it: FakeBench, kind: str) -> None:
    hold: dict[str, Callable[[], Awaitable[None]]] = {
        "the model is killed": lambda: _killed(it),
        "a foreign reader": lambda: _read(it),
        "callers leave": lambda: _leave(it),
    }
    if kind in hold:
        await hold[kind]()
    else:
        await it.fake.become(**MODEL_FAULTS[kind])
        await asyncio.sleep(_FAULT_S)
        await it.fake.become()


async def _killed(it: FakeBench) -> None:
    it.fake.kill()
    await asyncio.sleep(_FAULT_S)
    await it.fake.start()


async def _read(it: FakeBench) -> None:
    with contextlib.closing(sqlite3.connect(it.folder / "data" / "contents.sqlite")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM contents").fetchall()
        await asyncio.sleep(_FAULT_S)


async def _leave(it: FakeBench) -> None:
    """Two hundred callers who go amid their request."""
    for _ in range(200):
        _, writer = await asyncio.open_connection("127.0.0.1", it.sidecar.port)
        writer.write(b"POST /retrieve?type=text HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nleft")
        await writer.drain()
        writer.transport.abort()


def _slopes(it: FakeBench, notes: list[Resources]) -> dict[str, float | int | str]:
    """How much everything rose from the middle to the end, by a line through the notes."""
    half = notes[len(notes) // 2 :]
    figures: dict[str, float | int | str] = {}
    for name, allowed in (
        ("memory_mb", max(_MEMORY_RISE_MB, _MEMORY_RISE * half[0].memory_mb)),
        ("descriptors", 3.0),
        ("threads", 2.0),
    ):
        values = [float(getattr(note, name)) for note in half]
        rise = float(np.polyfit(range(len(values)), values, 1)[0]) * (len(values) - 1) if len(values) > 1 else 0.0
        figures |= {f"{name} at the end": round(values[-1], 1), f"{name} rise": round(rise, 1)}
        if rise > allowed:
            it.findings.leaked.append(f"{name} rose by {rise:.1f} from the middle to the end: {values}")
    return figures
