"""What a backup costs those who add: python -m bench.backup [CONTENTS]. Adds' p99 beside it and alone, in turns."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from index_sidecar.archive.content import Content, Embedding
from index_sidecar.sqlite.backup import Backups
from index_sidecar.sqlite.store import SqliteStore

CONTENTS = 1_000_000
ROUNDS = 2
LEAST_ADDS = 1000
_A_STEP = 20_000


def _content(number: int, numbers: np.random.Generator) -> Content:
    vector = numbers.standard_normal(512).astype(np.float32)
    return Content(f"new {number}", "text", "user", numbers.bytes(32), 0.0, Embedding(vector, "bench"))


def _fill(path: Path, count: int, numbers: np.random.Generator) -> None:
    """Rows as the store writes them, by the thousand."""
    insert = """
        INSERT INTO contents (id, type, user, sha256, created, truncated, block, preview)
        VALUES (?, 'text', 'user', ?, 0.0, 0, ?, ?)
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for first in range(2, count + 2, _A_STEP):
            blocks = range(first, min(first + _A_STEP, count + 2))
            data = numbers.bytes(2048 * len(blocks))
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO vectors (block, bytes) VALUES (?, ?)",
                ((block, data[2048 * n : 2048 * (n + 1)]) for n, block in enumerate(blocks)),
            )
            rows = ((f"id {block}", numbers.bytes(32), block, json.dumps([])) for block in blocks)
            connection.executemany(insert, rows)
            connection.execute("COMMIT")


async def _adds_ms(store: SqliteStore, name: str, numbers: np.random.Generator, ended: threading.Event) -> list[float]:
    """Milliseconds of adds one by one, until it has ended, and at least so many."""
    times: list[float] = []
    while len(times) < LEAST_ADDS or not ended.is_set():
        content = _content(0, numbers)
        content = Content(f"{name} {len(times)}", *(content.type, content.user, content.sha256, 0.0), content.embedding)
        started = time.perf_counter()
        await store.put(content)
        times.append((time.perf_counter() - started) * 1000)
    return times


async def main(count: int) -> None:
    """Print milliseconds an add, and the ratio."""
    numbers = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path, backups = Path(folder) / "data" / "contents.sqlite", Backups(Path(folder) / "backups")
        store = SqliteStore(path)
        await store.put(_content(0, numbers))
        await asyncio.to_thread(_fill, path, count, numbers)
        alone: list[float] = []
        beside: list[float] = []
        nothing = threading.Event()
        nothing.set()
        for turn in range(ROUNDS):
            alone += await _adds_ms(store, f"alone {turn}", numbers, nothing)
            ended, started = threading.Event(), time.perf_counter()

            def back_up(ended: threading.Event = ended) -> None:
                try:
                    backups.make(path, 1)
                finally:
                    ended.set()

            making = asyncio.create_task(asyncio.to_thread(back_up))
            beside += await _adds_ms(store, f"beside {turn}", numbers, ended)
            await making
            print(f"a backup of {count} contents took {time.perf_counter() - started:.1f} s", flush=True)
        p99 = [float(np.percentile(times, 99)) for times in (alone, beside)]
        for name, times, each in zip(("alone", "beside a backup"), (alone, beside), p99, strict=True):
            print(f"adds {name:<16} p50 {np.median(times):7.2f} ms   p99 {each:7.2f} ms   of {len(times)}")
        print(f"p99 beside a backup is {p99[1] / p99[0]:.2f} x that alone")
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else CONTENTS))
