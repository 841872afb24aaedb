"""What API keys and limits cost a search over HTTP.

    python -m bench.access

Three sidecars on copies of one archive of 60,000 images, in front of one embedder that looks vectors up and takes 1 ms:
`open`; `keys`, which asks for a key and counts; and `again`, open like the first. All three run on one core of their
own, the clients and the embedder on the others, and one is asked at a time.

A round asks them in short slices, in an order that reads the same backwards (open, keys, again, again, keys, open), so
that a drift of the machine's speed takes as much from each; the order changes from round to round. Each round gives a
ratio of keys to open and one of again to open. Printed are the medians of these ratios with 95 % of their bootstrap:
what `again` differs from `open` is the error of the measure, and should hold 1. The processor's time is that of the
sidecar's threads as the kernel counts it, which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from tqdm import tqdm

from bench.collection import filled, percentile
from bench.index_clients import at_once, lookup_embedder, one_after_the_other
from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from tests.support.sidecar import SidecarProcess

_ROWS = 60_000
_CLIENTS = 32
_NAMES = ("open", "keys", "again")
_LIMITED = {"ACCESS": "keys", "RATE_LIMIT": "100000000/minute", "MODEL_RATE_LIMIT": "100000000/minute"}
_RESAMPLES = 10_000
_LAST_CORE = {max(os.sched_getaffinity(0))}

Call = Callable[[int], Awaitable[object]]


class _Pinned(SidecarProcess):
    """On the last core, from its first step on: its threads inherit that."""

    def spawn(self) -> subprocess.Popen[bytes]:
        """As SidecarProcess has it."""
        process = super().spawn()
        os.sched_setaffinity(process.pid, _LAST_CORE)
        return process

    def cpu_s(self) -> float:
        """Seconds of a core that all its threads have had."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """The figures of each sidecar, and the ratios of each pair, of each round."""
    if others := os.sched_getaffinity(0) - _LAST_CORE:
        os.sched_setaffinity(0, others)
    async with filled(_ROWS) as collection, contextlib.AsyncExitStack() as stack:
        queries = collection.queries["text"]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, key_file = stack.enter_context(lookup_embedder(folder, queries))
        sidecars: dict[str, tuple[_Pinned, Call]] = {}
        for name in _NAMES:
            shutil.copytree(collection.folder, folder / name)
            environment, headers = ({"ACCESS": "open"}, {})
            if name == "keys":
                key = add_key(folder / name / "keys.json", "bench", Role.READER, None, None)
                environment, headers = _LIMITED, {"Authorization": f"Bearer {key}"}
            sidecar = stack.enter_context(_Pinned(folder / name, url, key_file, **environment))
            await asyncio.to_thread(sidecar.start, 120)
            connector = aiohttp.TCPConnector(limit=_CLIENTS)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))
            sidecars[name] = sidecar, _asking(session, f"{sidecar.url}/retrieve", len(queries))
        slices = []
        for number in tqdm(range(-1, rounds), desc="access", unit="round"):
            order = list(itertools.permutations(_NAMES))[number % 6]
            some = [await _slice(name, *sidecars[name], seconds) for name in (*order, *reversed(order))]
            slices += some if number >= 0 else []  # the first round warms up
    return _summary(slices, rounds)


def _asking(session: aiohttp.ClientSession, url: str, queries: int) -> Call:
    async def ask(number: int) -> None:
        parameters = {"type": "text", "target": "image", "k": "10"}
        async with session.post(url, params=parameters, data=b"%d" % (number % queries)) as response:
            assert response.status == 200, await response.text()
            await response.read()

    return ask


async def _slice(name: str, sidecar: _Pinned, ask: Call, seconds: float) -> tuple[str, dict[str, float]]:
    """Milliseconds of a lone caller; then answers a second to many at once, and the core's milliseconds of each."""
    lone = percentile(await one_after_the_other(ask, 1_000_000, seconds / 2), 50)
    answers = 0

    async def counted(number: int) -> None:
        nonlocal answers
        await ask(number)
        answers += 1

    before = sidecar.cpu_s()
    rate = await at_once(counted, _CLIENTS, seconds)
    return name, {
        "ms_of_a_lone_search": lone,
        "searches_a_second_of_32": rate,
        "core_ms_a_search": (sidecar.cpu_s() - before) / answers * 1000,
    }


def _summary(slices: list[tuple[str, dict[str, float]]], rounds: int) -> dict[str, Any]:
    each_round = len(slices) // rounds
    made: dict[str, Any] = {}
    for figure in slices[0][1]:
        of_rounds: dict[str, list[float]] = {name: [] for name in _NAMES}
        for first in range(0, len(slices), each_round):
            for name in _NAMES:
                both = [told[figure] for which, told in slices[first : first + each_round] if which == name]
                of_rounds[name].append(statistics.mean(both))
        made[figure] = {name: statistics.median(values) for name, values in of_rounds.items()}
        for name in ("keys", "again"):
            ratios = np.divide(of_rounds[name], of_rounds["open"])
            made[figure][f"{name}_over_open"] = _interval(ratios)
    return made


def _interval(ratios: np.ndarray[Any, Any]) -> list[float]:
    """The median, and the bounds of 95 % of the medians of as many drawn from these with replacement."""
    drawn = np.random.default_rng(0).choice(ratios, (_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return [float(np.median(ratios)), float(low), float(high)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each slice; six to a round")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    figures = asyncio.run(measure(arguments.rounds, arguments.seconds))
    for figure, told in figures.items():
        print(f"{figure:<26}" + "".join(f"{name} {told[name]:<9.3f}" for name in _NAMES))
        for name in ("keys", "again"):
            median, low, high = told[f"{name}_over_open"]
            print(f"{'':<26}{name}/open {median:.4f} (95 %: {low:.4f} to {high:.4f})")
    print(f"load average before {before:.1f}, after {os.getloadavg()[0]:.1f}, of {os.cpu_count()} cores")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
