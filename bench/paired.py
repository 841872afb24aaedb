"""Sidecars asked in turns, for what a search over HTTP costs more or less in one than in another.

All run on one core of their own, the clients and the embedder on the others, and one is asked at a time. A round asks
them in short slices, in an order that reads the same backwards (a, b, c, c, b, a), so that a drift of the machine's
speed takes as much from each; the order changes from round to round. Each round gives a ratio of each to the first.
Printed are the medians of these ratios with 95 % of their bootstrap. One of them should be like the first: what it
differs is the error of the measure, and should hold 1. The processor's time is that of the sidecar's threads as the
kernel counts it, which other work on the machine changes least.
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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
from tqdm import tqdm

from bench.collection import filled, percentile
from bench.index_clients import at_once, lookup_embedder, one_after_the_other
from tests.support.sidecar import SidecarProcess

_ROWS = 60_000
_CLIENTS = 32
_RESAMPLES = 10_000
_LAST_CORE = {max(os.sched_getaffinity(0))}

Call = Callable[[int], Awaitable[object]]


class Pinned(SidecarProcess):
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


class Way(NamedTuple):
    """How one of the sidecars runs, and what its callers send."""

    environment: Mapping[str, str]
    headers: Mapping[str, str] = {}
    kind: type[Pinned] = Pinned


def main(description: str | None, names: Sequence[str], way: Callable[[str, Path], Way], rounds: int) -> None:
    """Measure and print: the command of a benchmark. `way` is told a name and the folder of that one's data."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each slice; six to a round")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    figures = asyncio.run(_measured(names, way, arguments.rounds, arguments.seconds))
    print(_told(figures, names))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


async def _measured(
    names: Sequence[str], way: Callable[[str, Path], Way], rounds: int, seconds: float
) -> dict[str, Any]:
    """On copies of one archive of images, in front of one embedder that looks vectors up and takes 1 ms."""
    async with filled(_ROWS) as collection, contextlib.AsyncExitStack() as stack:
        queries = collection.queries["text"]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, key_file = stack.enter_context(lookup_embedder(folder, queries))
        sidecars: dict[str, tuple[Pinned, Mapping[str, str]]] = {}
        for name in names:
            shutil.copytree(collection.folder, folder / name)
            environment, headers, kind = way(name, folder / name)
            sidecars[name] = stack.enter_context(kind(folder / name, url, key_file, **environment)), headers
        return await _in_turns(sidecars, len(queries), rounds, seconds)


async def _in_turns(
    sidecars: Mapping[str, tuple[Pinned, Mapping[str, str]]], queries: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Figures by what is measured: the medians of each sidecar by its name, and `NAME_over_FIRST` with its bounds.

    `sidecars`, which are not started yet, come with the headers of their callers. `seconds` are those of each slice.
    """
    if others := os.sched_getaffinity(0) - _LAST_CORE:
        os.sched_setaffinity(0, others)
    async with contextlib.AsyncExitStack() as stack:
        asked: dict[str, tuple[Pinned, Call]] = {}
        for name, (sidecar, headers) in sidecars.items():
            await asyncio.to_thread(sidecar.start, 120)
            connector = aiohttp.TCPConnector(limit=_CLIENTS)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))
            asked[name] = sidecar, _asking(session, f"{sidecar.url}/retrieve", queries)
        orders = list(itertools.permutations(asked))
        slices = []
        for number in tqdm(range(-1, rounds), desc="in turns", unit="round"):
            order = orders[number % len(orders)]
            some = [await _slice(name, *asked[name], seconds) for name in (*order, *reversed(order))]
            slices += some if number >= 0 else []  # the first round warms up
    return _summary(slices, rounds, tuple(sidecars))


def _told(figures: dict[str, Any], names: Sequence[str]) -> str:
    """The figures of `_in_turns`, to read."""
    lines = []
    for figure, of_all in figures.items():
        lines.append(f"{figure:<26}" + "".join(f"{name} {of_all[name]:<9.3f}" for name in names))
        for name in names[1:]:
            median, low, high = of_all[f"{name}_over_{names[0]}"]
            lines.append(f"{'':<26}{name}/{names[0]} {median:.4f} (95 %: {low:.4f} to {high:.4f})")
    return "\n".join([*lines, f"load average after {os.getloadavg()[0]:.1f}, of {os.cpu_count()} cores"])


def _asking(session: aiohttp.ClientSession, url: str, queries: int) -> Call:
    async def ask(number: int) -> None:
        parameters = {"type": "text", "target": "image", "k": "10"}
        async with session.post(url, params=parameters, data=b"%d" % (number % queries)) as response:
            assert response.status == 200, await response.text()
            await response.read()

    return ask


async def _slice(name: str, sidecar: Pinned, ask: Call, seconds: float) -> tuple[str, dict[str, float]]:
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


def _summary(slices: list[tuple[str, dict[str, float]]], rounds: int, names: Sequence[str]) -> dict[str, Any]:
    each_round = len(slices) // rounds
    made: dict[str, Any] = {}
    for figure in slices[0][1]:
        of_rounds: dict[str, list[float]] = {name: [] for name in names}
        for first in range(0, len(slices), each_round):
            for name in names:
                both = [told[figure] for which, told in slices[first : first + each_round] if which == name]
                of_rounds[name].append(statistics.mean(both))
        made[figure] = {name: statistics.median(values) for name, values in of_rounds.items()}
        for name in names[1:]:
            ratios = np.divide(of_rounds[name], of_rounds[names[0]])
            made[figure][f"{name}_over_{names[0]}"] = _interval(ratios)
    return made


def _interval(ratios: np.ndarray[Any, Any]) -> list[float]:
    """The median, and the bounds of 95 % of the medians of as many drawn from these with replacement."""
    drawn = np.random.default_rng(0).choice(ratios, (_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return [float(np.median(ratios)), float(low), float(high)]
