"""How fast `clip-archive import` is beside 32 callers in a loop, what kills and searches beside it do, what it holds.

Everything is asked of one sidecar after the other, in front of a fake TorchServe, on small pictures and texts: what is
compared is the way in, not the model. Ratios hold where the machine's speed drifts; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from clip_archive import Archive, AsyncArchive
from clip_archive.exporting import Export
from clip_archive.importing.run import Options, run
from tests.campaign.servers import FakeProcess
from tests.client.kills import make, measure
from tests.support.sidecar import SidecarProcess

_CALLERS = 32
_FEWEST_SAMPLES = 200  # below, the start of the interpreter is all there is to see
_KIB_A_THOUSAND = 300.0  # a slope above is growth: 10,000 contents would be 3 MB


@contextlib.asynccontextmanager
async def _sidecar(folder: Path, model_needed: bool = True) -> AsyncIterator[str]:
    await asyncio.to_thread(folder.mkdir)
    fake = FakeProcess(folder)
    await fake.start()
    try:
        with SidecarProcess(folder / "data", fake.url, fake.key_file, ACCESS="open") as sidecar:
            await asyncio.to_thread(sidecar.start)
            if not model_needed:
                await fake.become(failure="internal_503")  # whoever asks it now fails
            yield sidecar.url
    finally:
        fake.kill()


async def _loop(url: str, files: list[Path], folder: Path) -> float:
    """Contents a second of 32 callers, each with one call after the other."""
    waiting = iter(files)

    async with AsyncArchive(url) as archive:

        async def caller() -> None:
            for path in waiting:
                kind = "image" if path.suffix == ".png" else "text"
                await archive.add_content(str(path.relative_to(folder)), path, type=kind)  # type: ignore[arg-type]

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    return len(files) / (time.perf_counter() - started)


def _imported(url: str, folder: Path, count: int, place: Path) -> float:
    started = time.perf_counter()
    with Archive(url) as archive:
        run(archive, [folder], Options(journal=place / "journal", failed=place / "failed"), True)
    return count / (time.perf_counter() - started)


async def rates(folder: Path, files: list[Path], rounds: int, place: Path) -> dict[str, float]:
    """The median ratio of the import's rate over that of 32 callers in a loop, first one and then the other first."""
    ratios, loops = [], []
    for number in range(rounds):
        found = {}
        for name in ("loop", "import") if number % 2 else ("import", "loop"):
            here = place / f"{number}-{name}"
            async with _sidecar(here) as url:
                if name == "loop":
                    found[name] = await _loop(url, files, folder)
                else:
                    found[name] = await asyncio.to_thread(_imported, url, folder, len(files), here)
        ratios.append(found["import"] / found["loop"])
        loops.append(found["loop"])
    return {"loop_per_s": statistics.median(loops), "import_over_loop": statistics.median(ratios)}


async def kills(folder: Path, count: int, ids: set[str], place: Path) -> dict[str, float]:
    """Killed twice on the way: what is missing, what is there twice, and how memory grew with what was sent."""
    async with _sidecar(place / "kills") as url:
        outcome = await asyncio.to_thread(measure, url, folder, (count // 4, count * 6 // 10))
        unlike = await _moved(url, place)
    samples = outcome.memory_kib[-1][len(outcome.memory_kib[-1]) // 4 :]
    slope = (
        np.polyfit(np.linspace(0, count * 0.3 / 1000, len(samples)), samples, 1)[0]
        if len(samples) >= _FEWEST_SAMPLES
        else 0.0
    )
    return {
        "kills": float(outcome.statuses[:2].count(-9)),
        "missing": float(len(ids - set(outcome.ids))),
        "twice": float(sum(times > 1 for times in outcome.ids.values())),
        "dead_letters": float(len(outcome.letters)),
        "kib_a_thousand": float(slope),
        "unlike_after_moving": float(unlike),
    }


async def _moved(url: str, place: Path) -> int:
    """How many contents are not the same in an archive that took an export of this one, whose model is never asked."""
    with (place / "export.ndjson").open("wb") as file:
        async with AsyncArchive(url) as archive:
            async for line, _ in archive.export_lines(Export(vectors=True)):
                file.write(line + b"\n")
    async with _sidecar(place / "elsewhere", model_needed=False) as there:

        def take() -> None:
            with Archive(there) as archive:
                run(archive, [place / "export.ndjson"], Options(), True)

        await asyncio.to_thread(take)
        async with AsyncArchive(url) as one, AsyncArchive(there) as other:
            here = {each.id: each async for each in one.export(vectors=True)}
            moved = {each.id: each async for each in other.export(vectors=True)}
    return sum(here.get(each) != moved.get(each) for each in here.keys() | moved.keys())


async def searches(folder: Path, place: Path) -> dict[str, float]:
    """The p50 of a lone searcher, alone and beside an import, in milliseconds."""
    async with _sidecar(place / "searches") as url, AsyncArchive(url) as archive:

        async def p50(until: asyncio.Task[int] | None) -> float:
            times: list[float] = []
            while not until.done() if until is not None else len(times) < 300:
                started = time.perf_counter()
                await archive.retrieve(f"question {len(times)} {time.time()}", k=10)
                times.append(1000 * (time.perf_counter() - started))
            return statistics.median(times)

        alone = await p50(None)
        command = [sys.executable, "-m", "clip_archive", "import", str(folder), "--url", url, "--json"]
        more = ["--journal", str(place / "searches.sqlite"), "--failed", str(place / "failed")]
        process = await asyncio.create_subprocess_exec(*command, *more, stdout=asyncio.subprocess.DEVNULL)
        beside = await p50(asyncio.create_task(process.wait()))
    return {"search_p50_ms_alone": alone, "search_p50_ms_beside_an_import": beside}


async def measured(count: int, rounds: int) -> dict[str, float]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = place / "in"
        ids = make(folder, count)
        files = [folder / each for each in sorted(ids)]
        found = await kills(folder, count, ids, place)
        (folder / "broken.png").unlink()
        (folder / "blank.txt").unlink()
        return found | await searches(folder, place) | await rates(folder, files, rounds, place)


def main() -> None:
    """Measure and print; the exit status is 1 where something is missing, twice, or grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    figures = asyncio.run(measured(arguments.count, arguments.rounds))
    for name, value in figures.items():
        print(f"{name:<32} {value:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    wrong = (
        figures["missing"]
        or figures["twice"]
        or figures["unlike_after_moving"]
        or figures["kib_a_thousand"] > _KIB_A_THOUSAND
    )
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
