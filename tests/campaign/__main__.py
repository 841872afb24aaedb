"""Runs the campaign and writes docs/reliability.json and the table of docs/reliability.md from what it found."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..support.sidecar import ROOT
from . import faults, kills, overload, real, soak, sockets
from .findings import Row
from .table import write

RESULTS = ROOT / "docs" / "reliability.json"
Tell = Callable[[], None]
Part = Callable[[argparse.Namespace, Path, Tell], Awaitable[list[Row]]]


async def _kills(options: argparse.Namespace, folder: Path, tell: Tell) -> list[Row]:
    sidecar = await kills.kill_sidecar(folder / "sidecar", options.kills, options.seed, tell)
    return [sidecar, await kills.kill_torchserve(folder / "fake", max(options.kills // 10, 1), options.seed, tell)]


async def _faults(options: argparse.Namespace, folder: Path, tell: Tell) -> list[Row]:
    rounds, seed = options.rounds, options.seed
    rows = await faults.model(folder / "model", rounds, 1.0, seed, tell)
    rows += [
        await faults.foreign_reader(folder / "reader", 1, options.reader_s, seed, tell),
        await faults.full_disk(folder / "disk", rounds, seed, tell),
        await faults.second_sidecar(folder / "second", rounds, seed, tell),
        await faults.terminated(folder / "term", 5 * rounds, seed, tell),
    ]
    if (clock := await faults.clock(folder / "clock", 10 * rounds, seed, tell)) is not None:
        rows.append(clock)
    store = "tests/sqlite/test_faults.py::"
    rows += [
        faults.tested(
            "the disk becomes read-only",
            f"{store}test_a_read_only_disk_is_told_in_one_line",
            f"{store}test_a_file_that_becomes_read_only_refuses_writes_and_serves_reads",
        ),
        faults.tested(
            "pages of the database are damaged, or its file is moved away",
            f"{store}test_damage_under_a_running_store_is_told_as_503",
            f"{store}test_over_http_a_lost_file_is_no_500_and_everybody_hears_of_it",
            f"{store}test_a_file_that_vanishes_is_noticed",
            f"{store}test_a_damaged_database_ends_the_start_with_the_way_out",
            f"{store}test_a_damaged_database_that_opens_is_told_by_those_who_read_it_whole",
        ),
    ]
    return rows


async def _overload(options: argparse.Namespace, folder: Path, tell: Tell) -> list[Row]:
    rows = [
        await overload.overload(folder / f"{kind}-{times}", kind, times, options.overload_s, tell)
        for kind in ("closed", "open")
        for times in (10, 30)
    ]
    return [*rows, await overload.import_and_search(folder / "import", 100, tell)]


async def _sockets(options: argparse.Namespace, folder: Path, tell: Tell) -> list[Row]:
    rows = await sockets.crowd(folder / "crowd", 500, list(sockets.ATTACKS), tell)
    return [*rows, await sockets.pipelined(folder / "pipelined", 10, tell)]


async def _soak(options: argparse.Namespace, folder: Path, tell: Tell) -> list[Row]:
    return [await soak.soak(folder / "soak", 60 * options.minutes, options.fault_every_s, options.seed, tell)]


async def _real(options: argparse.Namespace, folder: Path, tell: Tell) -> list[Row]:
    return await real.kill(folder / "real", options.real_rounds, options.seed, tell)


async def _import(options: argparse.Namespace, folder: Path, tell: Tell) -> list[Row]:
    return [await real.import_and_search(folder / "import", 200, tell)]


PARTS: dict[str, Part] = {
    "kills": _kills,
    "faults": _faults,
    "overload": _overload,
    "sockets": _sockets,
    "soak": _soak,
    "real": _real,
    "import": _import,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="these parts alone")
    parser.add_argument("--kills", type=int, default=500, help="how often the sidecar is killed")
    parser.add_argument("--rounds", type=int, default=5, help="how often each fault is tried")
    parser.add_argument("--reader-s", type=float, default=60.0, help="how long a foreign reader holds the database")
    parser.add_argument("--overload-s", type=float, default=20.0, help="how long each overload is measured")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the soak takes")
    parser.add_argument("--fault-every-s", type=float, default=60.0, help="how far apart its faults are")
    parser.add_argument("--real-rounds", type=int, default=3, help="kills of each process of a real TorchServe")
    parser.add_argument("--seed", type=int, default=1, help="of what is random")
    return parser


async def _run(part: Part, options: argparse.Namespace, folder: Path, bar: tqdm[Any]) -> list[Row]:
    def tell() -> None:
        bar.update()

    return await part(options, folder, tell)


def main() -> None:
    """Run the parts one after the other; what was known of a part stays until it is run again. 1 where a row is bad."""
    options = _parser().parse_args()
    bad = 0
    for name in options.only:
        began = time.time()
        with tempfile.TemporaryDirectory() as folder, tqdm(desc=name, unit=" cases") as bar:
            rows = asyncio.run(_run(PARTS[name], options, Path(folder), bar))
        results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"parts": {}}
        results["parts"][name] = {
            "run": {key: value for key, value in vars(options).items() if key != "only"},
            "began": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)),
            "seconds": round(time.time() - began),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}",
            "rows": [row.as_json() for row in rows],
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results, list(PARTS))
        bad += sum(not row.findings.none() for row in rows)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
