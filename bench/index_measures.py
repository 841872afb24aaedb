"""What the index benchmark measures of one size, each thing beside the plain library it is compared with."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import faiss
import numpy as np

from bench.clip_shape import clip_like
from bench.collection import QUERIES, Collection, Figures, K, content_of, filled, percentile, recall
from bench.index_clients import LoopClock, busy, one_after_the_other, over_http, speed
from index_sidecar.vectors.index import FaissIndex

_ALWAYS_EXACT = 10**9


async def measure(rows: int, approximate: bool, hnsw: bool, seconds: float) -> Figures:
    """All figures of one size; `seconds` is about what each single measurement may take."""
    async with filled(rows) as collection:
        figures: Figures = {"rows": rows, **_floor_and_flat(collection, seconds)}
        if hnsw:
            figures |= _hnsw(collection)
        figures |= await _exact(collection, seconds, figures)
        if approximate:
            figures |= await _approximate(collection, seconds, figures)
        await collection.store.close()
        await asyncio.to_thread(os.sync)
        ready_s, rate = await over_http(collection.folder, collection.queries["text"], 32, seconds)
        figures |= {"http_start_s": ready_s, "http_32_clients_per_s": rate}
    return figures


def _floor_and_flat(collection: Collection, seconds: float) -> Figures:
    cores = faiss.omp_get_max_threads()
    parts = np.array_split(collection.images.ravel(), cores)
    floors = []
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(8):
            started = time.perf_counter()
            list(threads.map(np.max, parts))  # reads all rows once, and does next to nothing with them
            floors.append((time.perf_counter() - started) * 1000)
    index = faiss.IndexFlatIP(collection.images.shape[1])
    index.add(collection.images)
    times = []
    end = time.perf_counter() + seconds
    for query in collection.queries["text"]:
        started = time.perf_counter()
        index.search(query.reshape(1, -1), K)
        times.append((time.perf_counter() - started) * 1000)
        if time.perf_counter() > end:
            break
    return {"floor_ms": min(floors), "flat_p50_ms": percentile(times, 50), "flat_p99_ms": percentile(times, 99)}


def _hnsw(collection: Collection) -> Figures:
    """hnswlib has no wheel for this platform; Faiss has the same algorithm (Malkov and Yashunin 2016)."""
    index = faiss.IndexHNSWFlat(collection.images.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 40, 128
    started = time.perf_counter()
    index.add(collection.images)
    figures: Figures = {"hnsw_build_s": time.perf_counter() - started}
    for kind, queries in collection.queries.items():
        times, found = [], []
        for query in queries:
            started = time.perf_counter()
            found.append(set(index.search(query.reshape(1, -1), K)[1][0].tolist()))
            times.append((time.perf_counter() - started) * 1000)
        figures |= {
            f"hnsw_p50_ms_{kind}": percentile(times, 50),
            f"hnsw_recall_{kind}": recall(found, collection.exact(queries)),
        }
    return figures


async def _exact(collection: Collection, seconds: float, before: Figures) -> Figures:
    figures: Figures = {}
    for dtype in ("float32", "float16"):
        index = FaissIndex(collection.folder, dtype, _ALWAYS_EXACT, 1.0)
        started = time.perf_counter()
        await index.load(collection.store)
        figures[f"{dtype}_load_s"] = time.perf_counter() - started
        figures[f"{dtype}_bytes"] = (await index.state("image")).memory_bytes
        figures |= await speed(dtype, partial(collection.ask, index), QUERIES, seconds)
        if dtype == "float32":
            others = await one_after_the_other(partial(collection.ask, index, user="hog"), QUERIES, seconds)
            figures["exclude_owner_cost"] = percentile(others, 50) / figures["float32_p50_ms"]
            figures["exclude_nearest_cost"] = await _exclude_nearest_ms(collection, index, seconds) / percentile(
                others, 50
            )
            figures["exact_single_over_flat"] = figures["float32_p50_ms"] / before["flat_p50_ms"]
            figures["exact_batch32_speedup"] = figures["float32_32_clients_per_s"] * before["flat_p50_ms"] / 1000
        await index.close()
    return figures


async def _exclude_nearest_ms(collection: Collection, index: FaissIndex, seconds: float) -> float:
    """The median when the hundred nearest are those of the user who is left out: what is fetched is never enough."""
    near = [replace(content_of(n, collection.queries["text"][0], "image", "near "), user="near") for n in range(100)]
    await index.upsert(near)
    times = await one_after_the_other(lambda _: collection.ask(index, 0, user="near"), QUERIES, seconds)
    await index.delete([content.id for content in near])
    return percentile(times, 50)


async def _approximate(collection: Collection, seconds: float, before: Figures) -> Figures:
    """A build under adds and queries, the index it makes, single deletes, and a restart."""
    index = _growing(collection)
    extra = clip_like("image", 1000, 4)
    ask = partial(collection.ask, index)

    async def add(number: int) -> None:
        content = content_of(number, extra[number % len(extra)], "image", "extra ")
        await index.upsert([content])

    started = time.perf_counter()
    await index.load(collection.store)
    loaded_s = time.perf_counter() - started
    async with LoopClock() as clock, busy(ask, 0.05) as times, busy(add, 0.02) as adds:
        while (state := await index.state("image")).kind == "exact" or state.build is not None:
            assert state.recall is None or state.build is not None, f"the gate refused: {state}"
            await asyncio.sleep(0.05)
    built_s = time.perf_counter() - started - loaded_s
    state = await index.state("image")
    assert state.size == collection.rows + len(adds), "an add was lost"
    figures: Figures = {
        "load_from_store_s": loaded_s,
        "build_s": built_s,
        "build_loop_stall_ms": clock.worst_ms,
        "build_query_p50_ms": percentile(times, 50),
        "build_query_max_ms": max(times),
        "build_adds": len(adds),
        "nprobe": state.nprobe,
        "approximate_bytes": state.memory_bytes,
        "gate_recall": state.recall,
    }
    for number in range(len(adds)):
        await index.delete([f"extra image {number}"])
    while (await index.state("image")).snapshot != "written":
        await asyncio.sleep(0.05)
    found = await collection.recalls(index)
    figures |= {f"recall_{kind}_to_image": part for kind, part in found.items()}
    figures |= await speed("approximate", ask, QUERIES, seconds)
    figures["ivf_speedup"] = before["float32_p50_ms"] / figures["approximate_p50_ms"]
    deletes = await one_after_the_other(lambda number: index.delete([f"image {number}"]), 200, seconds)
    figures |= {"delete_p50_ms": percentile(deletes, 50), "delete_max_ms": max(deletes)}
    await index.close()
    # The store still has the deleted ones: the restart has to read those of it.
    figures["restart_s"] = await _restart(collection)
    snapshot, whole = collection.folder / "index-image.snapshot", collection.folder / "whole"
    snapshot.rename(whole)
    for harm, name in ((_flip_a_byte, "flipped"), (_truncate, "truncated")):
        shutil.copyfile(whole, snapshot)
        harm(snapshot)
        figures[f"restart_{name}_s"] = await _restart(collection)
    whole.replace(snapshot)
    return figures


def _growing(collection: Collection) -> FaissIndex:
    """An index that is to become approximate, as the settings' defaults have it at 1M rows."""
    return FaissIndex(collection.folder, "float32", min(200_000, collection.rows // 2), 0.95)


async def _restart(collection: Collection) -> float:
    """Seconds until the index answers again, with everything in it."""
    await asyncio.to_thread(os.sync)  # what the benchmark itself has copied is no part of a restart
    started = time.perf_counter()
    index = _growing(collection)
    await index.load(collection.store)
    seconds = time.perf_counter() - started
    assert await index.count("image") == collection.rows
    found = await collection.recalls(index, 100)
    assert min(found.values()) > 0.9, found
    await index.close()
    return seconds


def _flip_a_byte(snapshot: Path) -> None:
    with snapshot.open("r+b") as file:
        file.seek(snapshot.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _truncate(snapshot: Path) -> None:
    os.truncate(snapshot, snapshot.stat().st_size // 2)
