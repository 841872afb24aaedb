"""Clients of the index benchmark: one after the other, many at once, over HTTP, and a clock on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import numpy as np

from bench.clip_shape import Vectors
from bench.collection import Figures, percentile
from tests.support.sidecar import ROOT, SidecarProcess

EMBEDDER_DELAY_MS = 1.0


async def one_after_the_other(call: Callable[[int], Awaitable[object]], calls: int, seconds: float) -> list[float]:
    """Milliseconds of each of `calls` calls, or of as many as the seconds are enough for; the first does not count."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    for number in range(calls + 1):
        started = time.perf_counter()
        await call(number)
        times.append((time.perf_counter() - started) * 1000)
        if time.perf_counter() > end:
            break
    return times[1:] or times


async def at_once(call: Callable[[int], Awaitable[object]], clients: int, seconds: float) -> float:
    """Calls a second of so many clients, each of which waits for its answer before it asks again."""
    numbers = itertools.count()
    done = 0
    started = time.perf_counter()

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < started + seconds:
            await call(next(numbers))
            done += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - started)


async def speed(name: str, call: Callable[[int], Awaitable[object]], calls: int, seconds: float) -> Figures:
    """Under this name: the latency of a lone caller, and the answers a second of 32 at once."""
    times = await one_after_the_other(call, calls, seconds)
    figures = {f"{name}_p50_ms": percentile(times, 50), f"{name}_p99_ms": percentile(times, 99)}
    return {**figures, f"{name}_32_clients_per_s": await at_once(call, 32, seconds)}


class LoopClock:
    """The longest time for which the event loop ran nothing else, in milliseconds."""

    def __init__(self) -> None:
        self.worst_ms = 0.0

    async def __aenter__(self) -> LoopClock:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst_ms = max(self.worst_ms, (time.perf_counter() - before) * 1000 - 1)


async def over_http(data_dir: Path, queries: Vectors, clients: int, seconds: float) -> tuple[float, float]:
    """Of a real sidecar process on a filled folder: seconds until it was ready, and its answers a second."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url, key_file = stack.enter_context(lookup_embedder(Path(folder), queries))
        with SidecarProcess(data_dir, url, key_file) as sidecar:
            started = time.perf_counter()
            await asyncio.to_thread(sidecar.start, 120)
            ready_s = time.perf_counter() - started
            connector = aiohttp.TCPConnector(limit=clients)
            async with aiohttp.ClientSession(connector=connector) as session:

                async def call(number: int) -> None:
                    parameters = {"type": "text", "target": "image", "k": "10"}
                    data = b"%d" % (number % len(queries))
                    async with session.post(f"{sidecar.url}/retrieve", params=parameters, data=data) as response:
                        assert response.status == 200, await response.text()
                        await response.read()

                await at_once(call, clients, min(2.0, seconds))  # warm
                rate = await at_once(call, clients, seconds)
            await asyncio.to_thread(sidecar.stop)
    return ready_s, rate


@contextlib.contextmanager
def lookup_embedder(folder: Path, queries: Vectors) -> Iterator[tuple[str, Path]]:
    """A process in place of TorchServe, which answers query n for the text n: its URL and key file."""
    table, key_file, port_file = folder / "table.npy", folder / "key_file.json", folder / "port"
    np.save(table, queries)
    command = [sys.executable, "-m", "bench.embedder", "--table", str(table), "--delay-ms", str(EMBEDDER_DELAY_MS)]
    process = subprocess.Popen([*command, "--key-file", str(key_file), "--port-file", str(port_file)], cwd=ROOT)
    try:
        while not (port_file.exists() and port_file.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port_file.read_text()}", key_file
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def busy(call: Callable[[int], Awaitable[object]], pause_s: float) -> AsyncIterator[list[float]]:
    """One client that keeps calling while the block runs; the milliseconds of its calls."""
    times: list[float] = []

    async def client() -> None:
        for number in itertools.count():
            started = time.perf_counter()
            await call(number)
            times.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(pause_s)

    task = asyncio.create_task(client())
    try:
        yield times
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
