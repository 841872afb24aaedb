"""The servers of the campaign as processes: a fake TorchServe that can be told to fail, a sidecar that is measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from ..support.fake_torchserve import FINGERPRINT
from ..support.fake_vectors import vector_of
from ..support.sidecar import AUTHORIZATION, ROOT, SidecarProcess, free_port
from .comparison import Comparison, VectorOf
from .findings import Findings
from .ledger import Ledger
from .load import IDS, Contents, Load

SOUND: dict[str, Any] = {"failure": None, "delay_s": 0.0, "speed": None, "resets": 0, "fingerprint": FINGERPRINT}

_START_S = 180  # a machine that much else shares starts slowly; how long it took is told


class FakeProcess:
    """The fake TorchServe in a process of its own, which keeps its port."""

    def __init__(self, folder: Path) -> None:
        self.key_file = folder / "key_file.json"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._port_file = folder / "port"
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, as after a reboot: with a new key."""
        self._port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.support.fake_torchserve", "--port", str(self.port)]
        command += ["--key-file", str(self.key_file), "--port-file", str(self._port_file)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        async with asyncio.timeout(30):
            while not (self._port_file.exists() and self._port_file.read_text()):
                assert self.process.poll() is None
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """As kill -9 does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def become(self, **changes: Any) -> None:
        """Change what it answers, and how; sound in everything that is not named."""
        changes = SOUND | changes
        async with aiohttp.ClientSession() as session, session.put(f"{self.url}/fake", json=changes) as response:
            assert response.status == 200


@dataclass
class Resources:
    """What a process holds."""

    memory_mb: float
    descriptors: int
    threads: int
    cpu_s: float


@dataclass(kw_only=True)
class Bench:
    """A sidecar in front of a TorchServe, with all that is known of what it must hold."""

    sidecar: SidecarProcess
    folder: Path
    ledger: Ledger = field(default_factory=lambda: Ledger(IDS))
    contents: Contents = field(default_factory=Contents)
    findings: Findings = field(default_factory=Findings)
    vector: VectorOf = vector_of
    tolerance: float = 2e-6

    @property
    def url(self) -> str:
        return self.sidecar.url

    def load(self, seed: int = 0, connections: int = 8, pause_s: float = 0.0) -> Load:
        """Mixed load, which writes into the bench's ledger."""
        return Load(self.url, self.ledger, self.contents, seed, connections, pause_s)

    async def start(self) -> float:
        """Start the sidecar; the seconds until it is ready."""
        began = time.monotonic()
        await asyncio.to_thread(self.sidecar.start, _START_S)
        return time.monotonic() - began

    async def stop(self, number: int) -> int:
        return await asyncio.to_thread(self.sidecar.stop, number)

    async def compare(self, seed: int = 0, files: bool = False) -> float:
        """Compare everything; with `files`, also what is left of the erased. The seconds until that was overwritten."""
        comparison = Comparison(self.url, self.ledger, self.contents, self.vector, self.tolerance)
        self.findings.add(await comparison.run(seed))
        if not files:
            return 0.0
        comparison.findings = Findings()
        seconds = await comparison.files(self.folder / "data")
        self.findings.add(comparison.findings)
        return seconds

    async def recovered(self, within_s: float = 30) -> float:
        """The seconds from now until an add of something new succeeds."""
        began = time.monotonic()
        async with aiohttp.ClientSession(headers=AUTHORIZATION) as session:
            while True:
                data = self.contents.fresh("text")
                try:
                    params = {"type": "text"}
                    async with session.post(f"{self.url}/retrieve", params=params, data=data) as response:
                        if response.status == 200:
                            return time.monotonic() - began
                except aiohttp.ClientError:
                    pass
                if time.monotonic() - began > within_s:
                    self.findings.wrong.append(f"no call succeeds {within_s} s after the fault")
                    return within_s
                await asyncio.sleep(0.02)

    def resources(self) -> Resources:
        assert self.sidecar.process is not None
        process = psutil.Process(self.sidecar.process.pid)
        times = process.cpu_times()
        held = process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()
        return Resources(*held, times.user + times.system)


@dataclass(kw_only=True)
class FakeBench(Bench):
    """... in front of a fake one, which can be told to fail."""

    fake: FakeProcess

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """The servers on other cores than this process, which sends: as from another machine. Not with one core."""
        cores = os.sched_getaffinity(0)
        mine = {max(cores)}
        if len(cores) > 1:
            _pin(os.getpid(), mine)
            for server in (self.sidecar.process, self.fake.process):
                assert server is not None
                _pin(server.pid, cores - mine)
        try:
            yield
        finally:
            _pin(os.getpid(), cores)


def _pin(pid: int, cores: Set[int]) -> None:
    """For all threads that there are; those to come follow the one that starts them."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


@contextlib.asynccontextmanager
async def bench(folder: Path, **environment: str) -> AsyncIterator[FakeBench]:
    """A bench in a folder of its own, up and empty."""
    folder.mkdir(parents=True, exist_ok=True)
    fake = FakeProcess(folder)
    await fake.start()
    sidecar = SidecarProcess(folder / "data", fake.url, fake.key_file, **environment)
    bench = FakeBench(sidecar=sidecar, folder=folder, fake=fake)
    try:
        await bench.start()
        yield bench
    finally:
        if sidecar.process is not None and sidecar.process.poll() is None:
            sidecar.stop(signal.SIGKILL)
        fake.kill()
