"""An import that is killed on its way, twice, and run again: `measure` says what is there then, and what it took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from clip_archive import Archive
from clip_archive.answers import HealthAnswer

from ..support.fake_torchserve import PNG
from ..support.sidecar import ROOT


@dataclass(frozen=True)
class Outcome:
    """`memory_kib` are samples of the import's resident set, run after run; `seconds` of all runs together."""

    statuses: list[int]
    ids: Counter[str]
    letters: list[str]
    memory_kib: list[list[int]]
    seconds: float


def make(folder: Path, count: int) -> set[str]:
    """Half pictures, half texts, and two that cannot be added; the ids of those that can."""
    ids = set()
    for number in range(count):
        name = f"{number % 20}/{number}.{'png' if number % 2 else 'txt'}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG + b"picture %d" % number if number % 2 else b"text number %d" % number)
        ids.add(name)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "blank.txt").write_text(" ")
    return ids


def measure(url: str, folder: Path, kill_at: tuple[int, ...]) -> Outcome:
    """Import `folder`, kill it when the archive has so many contents, and let the last run end."""
    started = time.monotonic()
    statuses, memory = [], []
    for count in (*kill_at, None):
        status, samples = _run(url, folder, count)
        statuses.append(status)
        memory.append(samples)
    with Archive(url) as archive:
        ids = Counter(each.id for each in archive.export())
    letters = folder.parent / "clip-archive-failed.jsonl"
    told = [json.loads(line)["id"] for line in letters.read_text().splitlines()] if letters.exists() else []
    return Outcome(statuses, ids, told, memory, time.monotonic() - started)


def _run(url: str, folder: Path, kill_at: int | None) -> tuple[int, list[int]]:
    command = [sys.executable, "-m", "clip_archive", "import", str(folder), "--json"]
    environment = {**os.environ, "CLIP_ARCHIVE_URL": url, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples: list[int] = []
    with Archive(url) as archive:
        while process.poll() is None:
            samples.append(_resident_kib(process.pid))
            if kill_at is not None and _count(archive) >= kill_at:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
    return process.wait(), samples


def _count(archive: Archive) -> int:
    health = archive.health()
    assert isinstance(health, HealthAnswer)
    assert health.contents is not None
    return health.contents.text + health.contents.image


def _resident_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
