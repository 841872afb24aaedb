"""What originals cost: python -m bench.originals. Photographs and captions, put and erased, with and without."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skimage import data as skimage_data

from index_sidecar.archive.content import Content, ContentType, Embedding, digest, preview_of_text
from index_sidecar.embedding.previews import preview_of_image
from index_sidecar.sqlite.store import SqliteStore

from .photographs import jpeg

ROUNDS = 5
CAPTION = "a {} in the old town, seen from above, number {}"
PHOTOGRAPHS = sorted(path for path in Path(skimage_data.__file__).parent.iterdir() if path.suffix in (".jpg", ".png"))
README = Path(__file__).parent.parent / "README.md"

Kind = Sequence[tuple[bytes, bytes | None]]


def _content(number: int, data: bytes, content_type: ContentType) -> Content:
    vector = np.random.default_rng(number).standard_normal(512).astype(np.float32)
    return Content(f"id {number}", content_type, "user", digest(data), 0.0, Embedding(vector, "bench"))


def _used(folder: Path) -> int:
    """Bytes that the disk gives to it."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


async def _round(some: Kind, content_type: ContentType, keeping: bool) -> tuple[list[float], list[float], int]:
    """Milliseconds of each put and of each delete, and what the archive takes between."""
    puts, deletes = [], []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        store = SqliteStore(folder / "contents.sqlite")
        for number, (data, preview) in enumerate(some):
            content = _content(number, data, content_type)
            started = time.perf_counter()
            await store.put(content, preview, data if keeping else None)
            puts.append((time.perf_counter() - started) * 1000)
        await asyncio.wrap_future(store.database.overwriter.add(1))  # the log is in the file
        used = _used(folder)
        for number in range(len(some)):
            started = time.perf_counter()
            await (await store.delete(f"id {number}")).is_overwritten(60)
            deletes.append((time.perf_counter() - started) * 1000)
        await store.close()
    return puts, deletes, used


async def _tell(name: str, some: Kind, content_type: ContentType) -> None:
    given = sum(len(data) for data, _ in some) / len(some)
    print(f"{name}: {len(some)}, {given / 1000:.1f} kB each")
    used_before = 0
    for keeping in (False, True):
        puts, deletes = [], []
        for _ in range(ROUNDS):
            put, delete, used = await _round(some, content_type, keeping)
            puts += put
            deletes += delete
        took, erased = statistics.median(puts), statistics.median(deletes)
        more = f", {(used - used_before) / len(some) / 1000:+.2f} kB on disk" if keeping else ""
        print(f"  {'with' if keeping else 'without':8} put {took:6.2f} ms, erase {erased:6.2f} ms{more}")
        used_before = used


async def main() -> None:
    """Print what one put and one erasure take, and what each content takes on the disk."""
    files = [path.read_bytes() for path in PHOTOGRAPHS]
    await _tell("scikit-image's photographs", [(each, preview_of_image(each)) for each in files], "image")
    jpegs = [jpeg(path, 1600) for path in PHOTOGRAPHS]
    await _tell("the same as JPEG of 1600 x 1600", [(each, preview_of_image(each)) for each in jpegs], "image")
    words = ("cat", "flood", "bridge", "crowd", "market")
    captions = [CAPTION.format(words[number % 5], number).encode() for number in range(500)]
    await _tell("captions", [(each, preview_of_text(each)) for each in captions], "text")
    lines = README.read_bytes().splitlines(keepends=True)
    pages = [b"".join(lines[first : first + 40]) for first in range(0, len(lines), 20)]
    await _tell("pages of this project's README.md", [(each, preview_of_text(each)) for each in pages], "text")
    times = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        for number, each in enumerate(jpegs * ROUNDS):
            started = time.perf_counter()
            with (Path(folder) / str(number)).open("wb") as file:
                file.write(each)
                file.flush()
                os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    print(f"writing and syncing such a JPEG alone: {statistics.median(times):.2f} ms")


if __name__ == "__main__":
    asyncio.run(main())
