"""The same with nothing faked: kills of TorchServe, its worker and the sidecar, and searches beside an import."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from index_sidecar.archive.content import ContentType, Vector

from ..support.real_servers import TorchServe
from ..support.samples import PHOTOGRAPHS
from ..support.sidecar import ROOT, SidecarProcess
from .findings import Findings, Row
from .load import Contents
from .overload import beside_import, searched
from .servers import Bench

PART = "real"
_TOLERANCE = 1e-4  # a vector depends a little on what else is in its batch


class _Pictures(Contents):
    """As Contents, with pictures that can be decoded."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = np.random.default_rng(0)
        self._photograph = next(path for path in PHOTOGRAPHS if path.name == "rocket.jpg").read_bytes()

    def fresh(self, content_type: ContentType) -> bytes:
        if content_type == "text":
            return super().fresh("text")
        file = io.BytesIO()
        Image.fromarray(self._numbers.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64)).save(file, "PNG")
        return file.getvalue()

    def photograph(self) -> bytes:
        """Of a press archive's size, its bytes unlike those of any other: nobody reads past the end of a JPEG."""
        return self._photograph + super().fresh("text")


@contextlib.asynccontextmanager
async def _bench(folder: Path) -> AsyncIterator[tuple[Bench, TorchServe, _Pictures]]:
    command = [sys.executable, str(ROOT / "handler" / "build_mar.py"), "--weights", "untrained"]
    command += ["--model-store", str(folder / "model_store"), "--cache", str(folder / "cache")]
    await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
    torchserve, contents = TorchServe(folder / "model_store", folder / "state"), _Pictures()

    @cache
    def vector(data: bytes, content_type: ContentType) -> Vector:
        reply = torchserve.predict(data, content_type)
        assert reply.status == 200, reply
        return np.frombuffer(reply.body, "<f4")

    sidecar = SidecarProcess(folder / "data", torchserve.url, torchserve.key_file)
    it = Bench(sidecar=sidecar, folder=folder, contents=contents, vector=vector, tolerance=_TOLERANCE)
    try:
        torchserve.start()
        await asyncio.to_thread(torchserve.wait, 300)
        await it.start()
        yield it, torchserve, contents
    finally:
        if sidecar.process is not None and sidecar.process.poll() is None:
            sidecar.stop(signal.SIGKILL)
        torchserve.stop()


async def kill(folder: Path, rounds: int, seed: int, tell: Callable[[], None]) -> list[Row]:
    """Kill each process in turn, on untrained weights."""
    numbers = random.Random(seed)
    async with _bench(folder) as (it, torchserve, _):

        async def worker() -> None:
            os.kill(await asyncio.to_thread(torchserve.worker_pid), signal.SIGKILL)

        async def server() -> None:
            await asyncio.to_thread(torchserve.stop, signal.SIGKILL)
            torchserve.start()

        async def sidecar() -> None:
            await it.stop(signal.SIGKILL)
            await it.start()

        rows = []
        kills = {"TorchServe's worker": worker, "TorchServe": server, "the sidecar before a real TorchServe": sidecar}
        for name, kill_it in kills.items():
            it.findings, slowest = Findings(), 0.0
            for number in range(rounds):
                load = it.load(seed + number, pause_s=0.05)
                async with load:
                    await asyncio.sleep(numbers.uniform(0.5, 2.0))
                    await kill_it()
                    slowest = max(slowest, await it.recovered(120))
                    await asyncio.sleep(0.5)
                it.findings.add(load.findings)
                await it.compare(number)
                tell()
            rows.append(Row(PART, f"kill -9 of {name} under mixed load", rounds, it.findings, slowest))
        return rows


async def import_and_search(folder: Path, searches: int, tell: Callable[[], None]) -> Row:
    """Searches beside 64 importers of photographs."""
    async with _bench(folder) as (it, _, contents):
        alone, beside = await beside_import(it, searches, contents.photograph)
        tell()
        return searched(it, searches, alone, beside, "searches beside 64 importers of photographs, real TorchServe")
