"""More callers than the model can serve, and searches beside an import of pictures."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

import aiohttp
import numpy as np

from index_sidecar.archive.content import ContentType

from ..support.sidecar import AUTHORIZATION
from .findings import Row
from .servers import Bench, bench

PART = "overload"
QUEUE_S = 2.0
_SLOW = (0.01, 0.03, 0.24)  # a model of 31 texts a second: ten and thirty times that can be sent from here
_REAL = (0.006, 0.0024, 0.02)  # as the real one on two cores: 411 texts or 50 pictures a second
_ONE_BATCH_S = 0.1  # within which the answers of one come
_WARM_S = 3.0  # until the model's speed is known and the queue is as it stays


@dataclass
class Measured:
    """What callers were told within a time."""

    seconds: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    finished: list[float] = field(default_factory=list)
    """When those ended that were accepted."""
    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    """How much later than planned requests of an open loop were sent: what the generator itself could not do."""
    grown_mb: float = 0.0
    service_cpu_s: float = 0.0
    generator_cpu_s: float = 0.0

    @property
    def goodput(self) -> float:
        """A second, from the end of the first batch to that of the last one: batches are too few to cut through."""
        if not self.finished:
            return 0.0
        first, last = self.finished[0] + _ONE_BATCH_S, self.finished[-1]
        return sum(each > first for each in self.finished) / max(last - self.finished[0], self.seconds - 1.0)

    def p99(self) -> float:
        return float(np.percentile(self.accepted_s, 99)) if self.accepted_s else 0.0


class Callers:
    """Searches for texts that nobody has asked for, as fast as they are told to."""

    def __init__(self, it: Bench) -> None:
        self._it = it
        self._began = 0.0
        self._measured = Measured()
        self._stopping = False

    async def closed(self, count: int, seconds: float) -> Measured:
        """`count` callers, each of which waits for its answer and, when refused, as long as it is told to."""
        async with _session() as session:
            tasks = [asyncio.create_task(self._call_on(session)) for _ in range(count)]
            await self._measure(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._measured

    async def open(self, a_second: float, seconds: float) -> Measured:
        """`a_second` requests a second, whatever is answered."""
        tasks: set[asyncio.Task[float]] = set()

        async def send(session: aiohttp.ClientSession) -> None:
            due = time.monotonic()
            while True:
                self._measured.late_s.append(time.monotonic() - due)
                task = asyncio.create_task(self._call(session))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due += random.expovariate(a_second)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        async with _session() as session:
            sending = asyncio.create_task(send(session))
            await self._measure(seconds)
            sending.cancel()
            left = list(tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(sending, *left, return_exceptions=True)
        return self._measured

    async def _measure(self, seconds: float) -> None:
        await asyncio.sleep(_WARM_S)
        self._measured = Measured(seconds)
        before, mine = self._it.resources(), time.process_time()
        await asyncio.sleep(seconds)
        after = self._it.resources()
        self._measured.grown_mb = after.memory_mb - before.memory_mb
        self._measured.service_cpu_s = after.cpu_s - before.cpu_s
        self._measured.generator_cpu_s = time.process_time() - mine

    async def _call_on(self, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(random.uniform(0, 1))
        while True:
            await asyncio.sleep(await self._call(session))

    async def _call(self, session: aiohttp.ClientSession) -> float:
        """How long to wait before the next one."""
        began, query, wait_s = time.monotonic(), self._it.contents.fresh("text"), 0.0
        async with session.post(f"{self._it.url}/retrieve?type=text&k=1", data=query) as response:
            answer = await response.read()
            if response.status == 200:
                self._measured.answers["200"] += 1
                self._measured.finished.append(time.monotonic())
                self._measured.accepted_s.append(time.monotonic() - began)
                return 0.0
            code = json.loads(answer)["error"]["code"]
            self._measured.answers[f"{response.status} {code}"] += 1
            self._measured.refused_s.append(time.monotonic() - began)
            wait_s = float(response.headers["Retry-After"]) * random.uniform(0.5, 1.5)
        if (response.status, code) != (503, "overloaded"):
            self._it.findings.wrong.append(f"a caller was told {response.status} {code}")
        return wait_s


def _session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=60)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=AUTHORIZATION)


async def overload(
    folder: Path, kind: Literal["closed", "open"], times: int, seconds: float, tell: Callable[[], None]
) -> Row:
    """`times` the load the model can take: as much work is done as at the best, and nobody waits in vain."""
    async with bench(folder, QUEUE_S=str(QUEUE_S)) as it:
        await it.fake.become(speed=_SLOW)
        with it.apart():
            peak = (await Callers(it).closed(24, seconds)).goodput
            tell()
            if kind == "closed":
                measured = await Callers(it).closed(round(peak * QUEUE_S * times), seconds)
            else:
                measured = await Callers(it).open(peak * times, seconds)
        await it.fake.become()
        recovered = await it.recovered()
        tell()
        figures = _judged(it, measured, peak)
        await it.compare()
    loop = "callers in closed loops who honour Retry-After" if kind == "closed" else "an open loop"
    cases = len(measured.accepted_s) + len(measured.refused_s)
    return Row(PART, f"{times} times the capacity, by {loop}", cases, it.findings, recovered, figures)


def _judged(it: Bench, measured: Measured, peak: float) -> dict[str, float | int | str]:
    """The figures of the row; bounds that were not kept go into the findings."""
    goodput, p99 = measured.goodput / peak, measured.p99()
    if goodput < 0.9:
        it.findings.missed.append(f"goodput is {goodput:.0%} of the peak of {peak:.1f}/s")
    if p99 > 2 * QUEUE_S:
        it.findings.missed.append(f"the p99 of what was accepted is {p99:.2f} s")
    if measured.grown_mb > 32:
        it.findings.leaked.append(f"memory grew by {measured.grown_mb:.0f} MB")
    answered = len(measured.accepted_s) + len(measured.refused_s)
    figures: dict[str, float | int | str] = {
        "peak /s": round(peak, 1),
        "goodput of peak %": round(100 * goodput),
        "accepted p99 s": round(p99, 2),
        "refused": len(measured.refused_s),
        "refused p50 ms": round(1000 * statistics.median(measured.refused_s or [0.0])),
        "memory +MB": round(measured.grown_mb, 1),
        "service CPU %": round(100 * measured.service_cpu_s / measured.seconds),
        "ms an answer": round(1000 * measured.service_cpu_s / max(answered, 1), 2),
        "generator CPU %": round(100 * measured.generator_cpu_s / measured.seconds),
    }
    if measured.late_s:
        figures["generator late p99 ms"] = round(1000 * float(np.percentile(measured.late_s, 99)))
    return figures


async def beside_import(
    it: Bench, searches: int, picture: Callable[[], bytes], importers: int = 64
) -> tuple[float, float]:
    """The median seconds of two searchers, alone and beside an import of pictures."""

    async def importing(session: aiohttp.ClientSession, number: int) -> None:
        count = 0
        while True:
            path = f"{it.url}/add_content?id=import-{number}-{count}&type=image"
            async with session.post(path, data=picture()) as response:
                await response.read()
                count += 1
                if response.status == 503:
                    await asyncio.sleep(float(response.headers["Retry-After"]))
                elif response.status != 201:
                    it.findings.wrong.append(f"the import was told {response.status}")

    async def search(session: aiohttp.ClientSession) -> list[float]:
        seconds: list[float] = []
        while len(seconds) < searches // 2:
            began, query = time.monotonic(), it.contents.fresh("text")
            async with session.post(f"{it.url}/retrieve?type=text", data=query) as response:
                answer = await response.read()
                if response.status == 200:
                    seconds.append(time.monotonic() - began)
                else:
                    # Its bound of time, as far as the service can tell: with the model of a busy machine.
                    code, after = json.loads(answer)["error"]["code"], f"after {time.monotonic() - began:.1f} s"
                    found = it.findings.missed if code == "overloaded" else it.findings.wrong
                    found.append(f"a search was told {code} {after}")
                    await asyncio.sleep(float(response.headers["Retry-After"]))
        return seconds

    async with _session() as session:
        await search(session)
        alone = await asyncio.gather(search(session), search(session))
        tasks = [asyncio.create_task(importing(session, number)) for number in range(importers)]
        await asyncio.sleep(2)
        beside = await asyncio.gather(search(session), search(session))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return statistics.median(chain(*alone)), statistics.median(chain(*beside))


async def import_and_search(folder: Path, searches: int, tell: Callable[[], None]) -> Row:
    """Searches beside 64 importers, with a model of the real one's speed."""
    async with bench(folder) as it:
        await it.fake.become(speed=_REAL)
        type_: ContentType = "image"
        alone, beside = await beside_import(it, searches, lambda: it.contents.fresh(type_))
        tell()
        return searched(it, searches, alone, beside, "searches beside 64 importers of pictures")


def searched(it: Bench, searches: int, alone: float, beside: float, fault: str) -> Row:
    """The row of what `beside_import` measured."""
    if beside > 5 * alone:
        it.findings.missed.append(f"p50 is {1000 * beside:.0f} ms beside, {1000 * alone:.0f} ms alone")
    figures: dict[str, float | int | str] = {
        "p50 alone ms": round(1000 * alone, 1),
        "p50 beside ms": round(1000 * beside, 1),
        "times": round(beside / alone, 1),
    }
    return Row("import", fault, searches, it.findings, None, figures)
