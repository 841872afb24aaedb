"""An index in this process over a store, contents in neighbourhoods, and waits for what is done meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from index_sidecar.archive.content import Content, ContentType, Embedding, Vector, digest
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.exact import DType
from index_sidecar.vectors.index import FaissIndex

from .engines import best
from .fake_torchserve import FINGERPRINT

NEVER = 10**9


def neighbourhoods(rows: int, seed: int, groups: int = 50) -> Vector:
    """(rows, 512) unit vectors that gather around a few centres, the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((groups, 512))
    numbers = np.random.default_rng(seed)
    vectors = centres[numbers.integers(groups, size=rows)] + 0.7 * numbers.standard_normal((rows, 512))
    unit: Vector = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def apart(rows: int, seed: int) -> Vector:
    """(rows, 512) unit vectors without any neighbourhoods."""
    vectors = np.random.default_rng(seed).standard_normal((rows, 512))
    unit: Vector = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def contents_of(rows: int, seed: int = 1, content_type: ContentType = "image") -> list[Content]:
    """Contents of such vectors, ids and keys unlike those of another seed."""
    names = [f"{seed} {number:05}" for number in range(rows)]
    embeddings = [Embedding(vector, FINGERPRINT) for vector in neighbourhoods(rows, seed)]
    owners = ("ann", None, "bob", "hog")
    return [
        Content(
            *(name, content_type, owners[number % 4], digest(name.encode()), 0.0, embedding),
            key=seed * 1_000_000 + number + 1,
        )
        for number, (name, embedding) in enumerate(zip(names, embeddings, strict=True))
    ]


async def opened(store: SqliteStore, exact_rows: int, recall: float = 0.0, dtype: DType = "float32") -> FaissIndex:
    """An index loaded from the store, in the store's folder."""
    index = FaissIndex(store.folder, dtype, exact_rows, recall)
    await index.load(store)
    return index


async def built(index: FaissIndex) -> None:
    """Until the images' index is approximate, and its snapshot written."""
    async with asyncio.timeout(20):
        while (state := await index.state("image")).snapshot != "written" or state.build is not None:
            await asyncio.sleep(0.005)


async def logged(caplog: pytest.LogCaptureFixture, line: str, times: int = 1) -> None:
    """Until the log has it."""
    async with asyncio.timeout(20):
        while caplog.text.count(line) < times:
            await asyncio.sleep(0.005)


async def found(index: FaissIndex, contents: list[Content], query: Vector) -> float:
    """Recall@10 of one query."""
    hits = await index.search(query, 10, "image", None)
    true = best(contents, query, 10, "image", None)
    return len({hit.id for hit in hits} & {hit.id for hit in true}) / len(true)


async def stored(store: SqliteStore, index: FaissIndex, contents: list[Content]) -> None:
    """As the service does it."""
    written = await asyncio.gather(*(store.put(content) for content in contents))
    await index.upsert([replace(each, key=put.key) for each, put in zip(contents, written, strict=True)])
