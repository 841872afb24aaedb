"""The same collection on one real Qdrant node, moved there and asked with the sidecar's own code."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import psutil
from tqdm import tqdm

from bench.collection import QUERIES, Collection, Figures, filled
from bench.index_clients import speed
from index_sidecar.qdrant.index import QdrantIndex
from index_sidecar.qdrant.migrate import copy
from index_sidecar.qdrant.store import QdrantStore
from index_sidecar.settings import Settings
from tests.support.qdrant_server import QdrantNode, start_servers

_NAME = "bench"


async def measure_qdrant(rows: int, seconds: float) -> Figures:
    """Moving the collection, latency, memory and recall; the node may take one core to index and one to search."""
    async with filled(rows) as collection:
        return {"rows": rows, **await _measure(collection, seconds)}


async def _measure(collection: Collection, seconds: float) -> Figures:
    servers = await asyncio.to_thread(start_servers, collection.folder / "qdrant", 1)
    points = servers.collection(_NAME, 60)
    store, index = QdrantStore(points), QdrantIndex(points, Settings.qdrant_hnsw_ef)
    try:
        started = time.perf_counter()
        with tqdm(total=await collection.store.count(), desc="to Qdrant", unit="content") as bar:
            await copy(collection.store, store, bar.update)
        copied_s = time.perf_counter() - started
        node = servers.nodes[0]
        while not await asyncio.to_thread(_indexed, node):
            await asyncio.sleep(1)
        figures: Figures = {"qdrant_copy_s": copied_s, "qdrant_indexed_s": time.perf_counter() - started}

        figures |= {f"qdrant_recall_{kind}": part for kind, part in (await collection.recalls(index)).items()}
        figures |= await speed("qdrant", partial(collection.ask, index), QUERIES, seconds)
        figures["qdrant_bytes"] = _resident_bytes(node)
    finally:
        await store.close()
        servers.stop()
    return figures


def _indexed(node: QdrantNode) -> bool:
    """Whether the node has nothing left to build or to merge."""
    return bool(node.call("GET", f"/collections/{_NAME}")["status"] == "green")


def _resident_bytes(node: QdrantNode) -> int:
    assert node.process is not None
    return int(psutil.Process(node.process.pid).memory_info().rss)
