"""Faults of what the sidecar stands on: the model, the disk, other programs, the clock, its own end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from ..support.disks import small_disk
from ..support.sidecar import ROOT
from .findings import Findings, Row
from .servers import Bench, bench

PART = "faults"
_OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"
MODEL_FAULTS: dict[str, dict[str, Any]] = {
    "is slow (0.5 s a content)": {"delay_s": 0.5},
    "hangs": {"failure": "hang"},
    "closes connections": {"failure": "disconnect"},
    "resets connections": {"resets": 1_000_000},
    "answers what is no HTTP": {"failure": "garbage"},
    "answers NaN": {"failure": "nan"},
    "answers vectors too short": {"failure": "short"},
    "answers vectors too long": {"failure": "long"},
    "answers vectors of another length than 1": {"failure": "not_unit"},
    "answers without end": {"failure": "endless"},
    "answers 500": {"failure": "internal_500"},
    "answers that its queue is full": {"failure": "queue_full"},
    "is another model in mid-flight": {"fingerprint": _OTHER_MODEL},
}
_REQUIRED = {"REQUIRE_ALL": "1"}  # a test that is skipped has shown nothing
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


async def model(folder: Path, rounds: int, seconds: float, seed: int, tell: Callable[[], None]) -> list[Row]:
    """The model fails in every way under load, then is sound again; no wrong vector may have come in."""
    rows = []
    async with bench(folder, TORCHSERVE_TIMEOUT_S="1") as it:
        for name, fault in MODEL_FAULTS.items():
            it.findings, slowest = Findings(), 0.0
            for number in range(rounds):
                load = it.load(seed + number)
                async with load:
                    await asyncio.sleep(seconds / 3)
                    await it.fake.become(**fault)
                    await asyncio.sleep(seconds)
                    await it.fake.become()
                    slowest = max(slowest, await it.recovered())
                it.findings.add(load.findings)
                if load.unanswered:
                    it.findings.wrong.append(f"{len(load.unanswered)} requests got no answer")
                await it.compare(number)
            rows.append(Row(PART, f"the model {name}", rounds, it.findings, slowest))
            tell()
    return rows


async def foreign_reader(folder: Path, rounds: int, seconds: float, seed: int, tell: Callable[[], None]) -> Row:
    """Another program reads the database all the time: nobody waits for it, and nothing erased outlives it."""
    slowest, longest = 0.0, 0.0
    async with bench(folder, ERASE_WAIT_S="1") as it:
        for number in range(rounds):
            load = it.load(seed + number, pause_s=0.01)
            async with load:
                await asyncio.sleep(0.3)
                with contextlib.closing(sqlite3.connect(folder / "data" / "contents.sqlite")) as reader:
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM contents").fetchall()
                    await asyncio.sleep(seconds)
            longest = max(longest, load.slowest.get("delete", 0.0))
            it.findings.add(load.findings)
            slowest = max(slowest, await it.compare(number, files=True))
            tell()
        if longest > 2.0:
            it.findings.missed.append(f"a delete took {longest:.1f} s with ERASE_WAIT_S=1")
    figures: dict[str, float | int | str] = {"held s": seconds, "slowest delete s": round(longest, 2)}
    return Row(PART, "a foreign reader holds the database", rounds, it.findings, slowest, figures)


async def full_disk(folder: Path, rounds: int, seed: int, tell: Callable[[], None]) -> Row:
    """The disk fills up under load, then there is room again: 507 for writes, searches go on."""
    slowest, told = 0.0, 0
    findings = Findings()
    for number in range(rounds):
        (folder / str(number) / "data").mkdir(parents=True)
        with small_disk(folder / str(number) / "data", "32m") as disk:
            async with bench(folder / str(number)) as it:
                load = it.load(seed + number)
                async with load:
                    await asyncio.sleep(0.4)
                    room = psutil.disk_usage(str(disk)).free
                    with contextlib.suppress(OSError):  # the sidecar writes on meanwhile
                        (disk / "ballast").write_bytes(b"x" * room)
                    await _until(lambda load=load: load.answers["507 storage_full"] >= 10, 10)  # type: ignore[misc]
                    (disk / "ballast").unlink()
                    slowest = max(slowest, await _adds_again(it))
                told += load.answers["507 storage_full"]
                it.findings.add(load.findings)
                await it.compare(number, files=True)
                if not load.answers["507 storage_full"]:
                    it.findings.wrong.append("no write was told that the disk is full")
                findings.add(it.findings)
        tell()
    return Row(PART, "the disk is full", rounds, findings, slowest, {"writes refused with 507": told})


async def clock(folder: Path, rounds: int, seed: int, tell: Callable[[], None]) -> Row | None:
    """The wall clock jumps by hours, days and years; None without libfaketime (Debian's package faketime)."""
    if not _FAKETIME.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    numbers, now = random.Random(seed), folder / "now"
    now.write_text("+0")
    preload = {"LD_PRELOAD": str(_FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(now), "FAKETIME_NO_CACHE": "1"}
    async with bench(folder, **preload, FAKETIME_DONT_FAKE_MONOTONIC="1") as it:
        load = it.load(seed)
        async with load:
            for _ in range(rounds):
                now.write_text(numbers.choice(("+1h", "-1h", "+1d", "-1d", "+20y", "-20y", "+0")))
                await asyncio.sleep(0.3)
                tell()
            slowest = await it.recovered()
        it.findings.add(load.findings)
        if load.unanswered:
            it.findings.wrong.append(f"{len(load.unanswered)} requests got no answer")
        await it.compare(files=True)
    return Row(PART, "the clock jumps", rounds, it.findings, slowest)


async def second_sidecar(folder: Path, rounds: int, seed: int, tell: Callable[[], None]) -> Row:
    """Another sidecar is started on the same folder: it ends in a line, and the first goes on."""
    async with bench(folder) as it:
        environment = {**it.sidecar.environment, "PORT": "0"}
        for number in range(rounds):
            load = it.load(seed + number)
            async with load:
                second = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "index_sidecar"), env=environment, cwd=ROOT, stderr=subprocess.PIPE
                )
                _, errors = await asyncio.wait_for(second.communicate(), 30)
                slowest = await it.recovered()
            if second.returncode != 1 or b"cannot start" not in errors or b"Traceback" in errors:
                it.findings.wrong.append(f"the second ended with {second.returncode}: {errors.decode()}")
            it.findings.add(load.findings)
            await it.compare(number)
            tell()
    return Row(PART, "two sidecars on one folder", rounds, it.findings, slowest)


async def terminated(folder: Path, rounds: int, seed: int, tell: Callable[[], None]) -> Row:
    """SIGTERM under load: every request that had reached the server gets its answer, and the exit code is 0."""
    slowest, answered = 0.0, 0
    async with bench(folder) as it:
        await it.fake.become(delay_s=0.1)
        for number in range(rounds):
            load = it.load(seed + number, connections=24)
            async with load:
                await asyncio.sleep(0.4)
                at = time.monotonic()
                code = await it.stop(signal.SIGTERM)
            if code != 0:
                it.findings.wrong.append(f"exit code {code}")
            # What was on its way in the very moment may meet a closed connection: it was accepted by nobody.
            cut = [began for began in load.unanswered if began < at - 0.02]
            it.findings.lost += [f"no answer to what began {at - began:.3f} s before SIGTERM" for began in cut]
            answered += sum(load.answers.values()) - len(load.unanswered)
            slowest = max(slowest, await it.start())
            it.findings.add(load.findings)
            await it.compare(number)
            tell()
    return Row(PART, "SIGTERM under load", rounds, it.findings, slowest, {"requests answered": answered})


async def tested(fault: str, tests: Sequence[str], tell: Callable[[], None]) -> Row:
    """A fault whose tests stand elsewhere: they are run, and each is a case."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:randomly", "--durations=0", *tests]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | _REQUIRED
    )
    tell()
    words = done.stdout.strip().splitlines()[-1].replace(",", "").split()
    counts = {name: int(count) for count, name in pairwise(words) if count.isdigit()}
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not failed:
        failed = [done.stdout[-500:]]
    return Row(PART, fault, counts.get("passed", 0) + len(failed), Findings(wrong=failed))


async def _adds_again(it: Bench) -> float:
    """The seconds until an add succeeds."""
    began, load = time.monotonic(), it.load(99, connections=1)
    async with load:
        await _until(lambda: load.succeeded_at > began, 30)
    it.findings.add(load.findings)
    return time.monotonic() - began


async def _until(what: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not what() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
