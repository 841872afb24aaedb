"""What the index benchmark measures of one size, each thing beside the plain library it is compared with."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from bench.clip_shape import Vectors, clip_like
from bench.index_clients import LoopClock, at_once, busy, one_after_the_other, over_http
from index_sidecar.content import Content, Embedding
from index_sidecar.faiss_index import FaissIndex
from index_sidecar.store import Store
from tests.fake_torchserve import FINGERPRINT

_TEXTS = 5000
_QUERIES = 500
_K = 10
_ALWAYS_EXACT = 10**9

Figures = dict[str, Any]


class Collection:
    """`rows` images and a few texts in a store, and queries of both kinds that are not in it."""

    def __init__(self, rows: int, folder: Path) -> None:
        self.rows = rows
        self.folder = folder
        self.images = clip_like("image", rows, 1)
        self.queries = {kind: clip_like(kind, _QUERIES, 3) for kind in ("text", "image")}
        self.store = Store(folder / "contents.sqlite")

    async def fill(self) -> None:
        """Put all contents in the store, 5,000 at once."""
        texts = clip_like("text", _TEXTS, 2)
        for vectors, kind in ((texts, "text"), (self.images, "image")):
            for first in range(0, len(vectors), 5000):
                numbers = range(first, min(first + 5000, len(vectors)))
                await asyncio.gather(*(self.store.put(content_of(n, vectors[n], kind)) for n in numbers))

    def exact(self, queries: Vectors) -> list[set[int]]:
        """The true answers of each query: the ten best rows."""
        rows = faiss.knn(queries, self.images, _K, faiss.METRIC_INNER_PRODUCT)[1]
        return [set(each) for each in rows.tolist()]


def content_of(number: int, vector: Vectors, kind: Any, prefix: str = "") -> Content:
    """Every fourth content is the hog's."""
    sha256 = hashlib.sha256(f"{prefix}{kind}{number}".encode()).digest()
    user = "hog" if number % 4 == 0 else f"user {number % 1000}"
    return Content(f"{prefix}{kind} {number}", kind, user, sha256, 0.0, Embedding(vector, FINGERPRINT))


async def measure(rows: int, approximate: bool, hnsw: bool, seconds: float) -> Figures:
    """All figures of one size; `seconds` is about what each single measurement may take."""
    folder = Path(tempfile.mkdtemp(prefix="bench-index-", dir=os.environ.get("BENCH_DIR")))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        collection = await asyncio.to_thread(Collection, rows, folder)
        started = time.perf_counter()
        await collection.fill()
        figures: Figures = {"rows": rows, "fill_store_s": time.perf_counter() - started}
        figures |= _floor_and_flat(collection, seconds)
        if hnsw:
            figures |= _hnsw(collection)
        figures |= await _exact(collection, seconds, figures)
        if approximate:
            figures |= await _approximate(collection, seconds, figures)
        await collection.store.close()
        ready_s, rate = await over_http(folder, collection.queries["text"], 32, seconds)
        figures |= {"http_start_s": ready_s, "http_32_clients_per_s": rate}
    return figures


def _floor_and_flat(collection: Collection, seconds: float) -> Figures:
    flat = collection.images.ravel()
    floors = []
    for _ in range(4):
        started = time.perf_counter()
        float(flat @ flat)  # reads all rows once, with all cores, and does next to nothing with them
        floors.append((time.perf_counter() - started) * 1000)
    index = faiss.IndexFlatIP(collection.images.shape[1])
    index.add(collection.images)
    times = []
    end = time.perf_counter() + seconds
    for query in collection.queries["text"]:
        started = time.perf_counter()
        index.search(query.reshape(1, -1), _K)
        times.append((time.perf_counter() - started) * 1000)
        if time.perf_counter() > end:
            break
    return {"floor_ms": min(floors), "flat_p50_ms": _p(times, 50), "flat_p99_ms": _p(times, 99)}


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
            found.append(set(index.search(query.reshape(1, -1), _K)[1][0].tolist()))
            times.append((time.perf_counter() - started) * 1000)
        figures |= {
            f"hnsw_p50_ms_{kind}": _p(times, 50),
            f"hnsw_recall_{kind}": _recall(found, collection.exact(queries)),
        }
    return figures


async def _exact(collection: Collection, seconds: float, before: Figures) -> Figures:
    figures: Figures = {}
    queries = collection.queries["text"]
    for dtype in ("float32", "float16"):
        index = FaissIndex(collection.folder, dtype, _ALWAYS_EXACT, 1.0, _ALWAYS_EXACT)
        started = time.perf_counter()
        await index.load(collection.store)
        figures[f"{dtype}_load_s"] = time.perf_counter() - started
        figures[f"{dtype}_bytes"] = (await index.state("image")).memory_bytes

        async def ask(number: int, user: str | None = None, index: FaissIndex = index) -> None:
            hits = await index.search(queries[number % len(queries)], _K, "image", user)
            assert len(hits) == _K
            assert user is None or all(hit.user != user for hit in hits)

        times = await one_after_the_other(ask, len(queries), seconds)
        figures |= {f"{dtype}_p50_ms": _p(times, 50), f"{dtype}_p99_ms": _p(times, 99)}
        figures[f"{dtype}_32_clients_per_s"] = await at_once(ask, 32, seconds)
        if dtype == "float32":
            others = await one_after_the_other(lambda number: ask(number, "hog"), len(queries), seconds)
            figures["exclude_owner_cost"] = _p(others, 50) / figures["float32_p50_ms"]
            figures["exact_single_over_flat"] = figures["float32_p50_ms"] / before["flat_p50_ms"]
            figures["exact_batch32_speedup"] = figures["float32_32_clients_per_s"] * before["flat_p50_ms"] / 1000
        await index.close()
    return figures


async def _approximate(collection: Collection, seconds: float, before: Figures) -> Figures:
    """A build under adds and queries, the index it makes, single deletes, and a restart."""
    index = FaissIndex(collection.folder, "float32", min(200_000, collection.rows // 2), 0.95, 1000)
    queries = collection.queries["text"]
    extra = clip_like("image", 1000, 4)

    async def ask(number: int) -> None:
        assert len(await index.search(queries[number % len(queries)], _K, "image", None)) == _K

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
        "build_query_p50_ms": _p(times, 50),
        "build_query_max_ms": max(times),
        "build_adds": len(adds),
        "nprobe": state.nprobe,
        "approximate_bytes": state.memory_bytes,
        "gate_recall": state.recall,
    }
    for number in range(len(adds)):
        await index.delete(f"extra image {number}")
    while (await index.state("image")).snapshot != "written":
        await asyncio.sleep(0.05)
    figures |= await _recalls(index, collection)
    times = await one_after_the_other(ask, len(queries), seconds)
    figures |= {"approximate_p50_ms": _p(times, 50), "approximate_p99_ms": _p(times, 99)}
    figures["ivf_speedup"] = before["float32_p50_ms"] / figures["approximate_p50_ms"]
    figures["approximate_32_clients_per_s"] = await at_once(ask, 32, seconds)
    deletes = await one_after_the_other(lambda number: index.delete(f"image {number}"), 200, seconds)
    figures |= {"delete_p50_ms": _p(deletes, 50), "delete_max_ms": max(deletes)}
    await index.close()
    # The store still has the deleted ones: the restart has to read those of it.
    started = time.perf_counter()
    index = FaissIndex(collection.folder, "float32", min(200_000, collection.rows // 2), 0.95, 1000)
    await index.load(collection.store)
    figures["restart_s"] = time.perf_counter() - started
    assert (await index.count("image"), (await index.state("image")).kind) == (collection.rows, "approximate")
    await index.close()
    return figures


async def _recalls(index: FaissIndex, collection: Collection) -> Figures:
    """The independent check: queries that are not stored, against scores computed outside the index."""
    figures = {}
    for kind, queries in collection.queries.items():
        answers = [await index.search(query, _K, "image", None) for query in queries]
        found = [{int(hit.id.split()[-1]) for hit in hits} for hits in answers]
        figures[f"recall_{kind}_to_image"] = _recall(found, collection.exact(queries))
    return figures


def _recall(found: Sequence[set[int]], exact: Sequence[set[int]]) -> float:
    return float(np.mean([len(one & other) / _K for one, other in zip(found, exact, strict=True)]))


def _p(times: list[float], percent: int) -> float:
    return float(np.percentile(times, percent))
