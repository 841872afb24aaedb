"""What erasure costs: python -m bench.erasure. Deletes with and without the checkpoint that makes them erasures."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from index_sidecar.archive.content import Content, Embedding
from index_sidecar.sqlite.store import SqliteStore

ALONE = 200
PUTS = 1000


def _content(number: int, numbers: np.random.Generator) -> Content:
    vector = numbers.standard_normal(512).astype(np.float32)
    return Content(f"id {number}", "text", "user", numbers.bytes(32), 0.0, Embedding(vector, "bench"))


async def _deletes_ms(store: SqliteStore, first: int, overwritten: bool = True) -> float:
    started = time.perf_counter()
    for number in range(first, first + ALONE):
        written = await store.delete(f"id {number}")
        if overwritten:
            await written.is_overwritten(60)
    return (time.perf_counter() - started) / ALONE * 1000


async def _puts_ms(store: SqliteStore, name: str, numbers: np.random.Generator) -> tuple[float, float]:
    """Median and longest of puts one by one."""
    times = []
    for number in range(PUTS):
        content = replace(_content(number, numbers), id=f"{name} {number}")
        started = time.perf_counter()
        await store.put(content, b"p" * 4000)
        times.append((time.perf_counter() - started) * 1000)
    return float(np.median(times)), max(times)


async def main() -> None:
    """Print milliseconds a call."""
    numbers = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "contents.sqlite")
        contents = [_content(number, numbers) for number in range(3200)]
        started = time.perf_counter()
        for first in range(0, len(contents), 32):
            await asyncio.gather(*(store.put(each, b"p" * 4000) for each in contents[first : first + 32]))
        print(f"puts, 32 a commit, with 4 kB previews  {len(contents) / (time.perf_counter() - started):8.0f} a second")
        erased = await _deletes_ms(store, 0)
        deleted = await _deletes_ms(store, ALONE, overwritten=False)
        print(
            f"deletes one by one, erased             {erased:8.2f} ms each, {erased / deleted:.1f} x those not erased"
        )
        started = time.perf_counter()
        deletes = await asyncio.gather(*(store.delete(f"id {number}") for number in range(1000, 2000)))
        await asyncio.gather(*(written.is_overwritten(60) for written in deletes))
        print(f"1,000 deletes at once, erased          {time.perf_counter() - started:8.3f} ms each")
        alone = await _puts_ms(store, "alone", numbers)
        with closing(sqlite3.connect(store.folder / "contents.sqlite", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM contents").fetchall()
            waiting = await store.delete("id 3000")
            beside = await _puts_ms(store, "beside", numbers)
            assert store.erasures_due() == 1
        gone = time.perf_counter()
        after = await _puts_ms(store, "after", numbers)
        await waiting.is_overwritten(60)
        print(f"puts one by one                        {alone[0]:8.2f} ms, at most {alone[1]:.0f}")
        print(f"  while a reader holds up an erasure   {beside[0]:8.2f} ms, at most {beside[1]:.0f}")
        print(f"  from the moment that it has gone     {after[0]:8.2f} ms, at most {after[1]:.0f}")
        print(f"  all overwritten within               {time.perf_counter() - gone:8.2f} s of that")
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
