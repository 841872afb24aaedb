"""Many contents in one call beside single calls: python -m bench.many

A sidecar process on an empty archive takes new short texts, in turn by `POST /add_content` with 1, 8 and 32 calls in
flight and by `POST /contents` with 256 texts a call, one call and two at a time. In place of TorchServe stands a
process that takes the time of the real one on two cores; `--real` starts the real one with model_store/clip.mar.
Caller, sidecar and model share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import psutil
from tqdm import tqdm

from tests.campaign.servers import FakeProcess
from tests.support.real_servers import TorchServe
from tests.support.sidecar import ROOT, SidecarProcess

Figures = dict[str, Any]

_AS_THE_REAL_ONE = (0.006, 0.0024, 0.02)  # seconds of a batch, and of each text and picture in it
_A_CALL = 256
_BOUNDARY = "many-contents"
_FORM = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
# How, what it is called, and the share of the texts that is enough to know its rate by.
WAYS = (
    ("single_1", "single calls, 1 at a time", 0.1),
    ("single_8", "single calls, 8 in flight", 0.5),
    ("single_32", "single calls, 32 in flight", 1.0),
    ("many_1", f"POST /contents, {_A_CALL} texts a call, 1 call at a time", 1.0),
    ("many_2", f"POST /contents, {_A_CALL} texts a call, 2 calls in flight", 1.0),
)


class Archive:
    """A sidecar that is filled."""

    def __init__(self, session: aiohttp.ClientSession, sidecar: SidecarProcess) -> None:
        assert sidecar.process is not None
        self._session = session
        self._url = sidecar.url
        self._process = psutil.Process(sidecar.process.pid)
        self._numbers = itertools.count()

    async def fill(self, way: str, count: int) -> tuple[float, float]:
        """Texts a second, and milliseconds of the sidecar's CPU a text."""
        kind, _, in_flight = way.partition("_")
        numbers = [next(self._numbers) for _ in range(count)]
        started, cpu_s = time.perf_counter(), self._cpu_s()
        if kind == "single":
            await _in_flight([[number] for number in numbers], int(in_flight), self._one)
        else:
            calls = [numbers[first : first + _A_CALL] for first in range(0, count, _A_CALL)]
            await _in_flight(calls, int(in_flight), self._many)
        seconds, cpu_s = time.perf_counter() - started, self._cpu_s() - cpu_s
        return count / seconds, cpu_s / count * 1000

    def memory_bytes(self) -> int:
        """What the sidecar keeps resident."""
        return int(self._process.memory_info().rss)

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    async def _one(self, numbers: Sequence[int]) -> None:
        (number,) = numbers
        parameters = {"id": f"text {number}", "type": "text"}
        async with self._session.post(f"{self._url}/add_content", params=parameters, data=_text(number)) as response:
            assert response.status == 201, await response.text()
            await response.read()

    async def _many(self, numbers: Sequence[int]) -> None:
        body = b"".join(_part(number) for number in numbers) + f"--{_BOUNDARY}--\r\n".encode()
        async with self._session.post(f"{self._url}/contents", data=body, headers=_FORM) as response:
            lines = [json.loads(line) async for line in response.content]
            assert lines[-1]["summary"]["added"] == len(numbers), lines[-1]


async def _in_flight(
    work: Sequence[Sequence[int]], most: int, call: Callable[[Sequence[int]], Awaitable[None]]
) -> None:
    waiting = iter(work)

    async def caller() -> None:
        for each in waiting:
            await call(each)

    await asyncio.gather(*(caller() for _ in range(most)))


def _text(number: int) -> bytes:
    return b"a cat sits on the roof of house number %d" % number


def _part(number: int) -> bytes:
    said = urlencode({"id": f"text {number}", "type": "text"})
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="content"\r\nX-Content-Parameters: {said}\r\n\r\n'
    return head.encode() + _text(number) + b"\r\n"


@contextlib.asynccontextmanager
async def _filled(folder: Path, real: bool) -> AsyncIterator[Archive]:
    with contextlib.ExitStack() as stack:
        url, key_file = stack.enter_context(_real(folder)) if real else await _fake(folder, stack)
        sidecar = stack.enter_context(SidecarProcess(folder / "data", url, key_file))
        await asyncio.to_thread(sidecar.start, 120)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
            yield Archive(session, sidecar)


async def _fake(folder: Path, stack: contextlib.ExitStack) -> tuple[str, Path]:
    fake = FakeProcess(folder)
    await fake.start()
    stack.callback(fake.kill)
    await fake.become(speed=_AS_THE_REAL_ONE)
    return fake.url, fake.key_file


@contextlib.contextmanager
def _real(folder: Path) -> Iterator[tuple[str, Path]]:
    torchserve = TorchServe(ROOT / "model_store", folder / "torchserve")
    torchserve.start()
    try:
        torchserve.wait()
        yield torchserve.url, torchserve.key_file
    finally:
        torchserve.stop()


async def measure(texts: int, rounds: int, real: bool) -> Figures:
    """Medians over the rounds of each way's texts a second and CPU, and the memory before and after each round."""
    rates: dict[str, list[float]] = {way: [] for way, _, _ in WAYS}
    cpu_ms: dict[str, list[float]] = {way: [] for way, _, _ in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        async with _filled(Path(folder), real) as archive:
            for way, _, _ in WAYS:  # warm, and the model's speed known
                await archive.fill(way, min(texts, 4 * _A_CALL))
            memory = [archive.memory_bytes()]
            for number in range(rounds):
                for way, _, share in tqdm(WAYS[:: 1 if number % 2 == 0 else -1], f"round {number + 1}", disable=None):
                    rate, ms = await archive.fill(way, max(1, int(texts * share)))
                    rates[way].append(rate)
                    cpu_ms[way].append(ms)
                memory.append(archive.memory_bytes())
    return {
        "cores": len(os.sched_getaffinity(0)),
        "model": "TorchServe" if real else "a process that takes as long as TorchServe",
        "load": os.getloadavg()[1],
        "texts": texts,
        "rounds": rounds,
        "memory_mb": [round(each / 1e6, 1) for each in memory],
        "contents_a_round": sum(int(texts * share) for _, _, share in WAYS),
        **{f"{way}_per_s": statistics.median(each) for way, each in rates.items()},
        **{f"{way}_cpu_ms": statistics.median(each) for way, each in cpu_ms.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=10_000, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--real", action="store_true", help="start TorchServe with model_store/clip.mar")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.texts, arguments.rounds, arguments.real))
    print(f"{'':<55}{'texts/s':>10}{'CPU ms/text':>13}")
    for way, name, _ in WAYS:
        print(f"{name:<55}{figures[f'{way}_per_s']:>10.1f}{figures[f'{way}_cpu_ms']:>13.2f}")
    print(f"sidecar's memory before and after each round: {figures['memory_mb']} MB")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
