"""Stores of two sidecars on one collection, which is new for each test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from index_sidecar.qdrant.store import QdrantStore

from ..support.qdrant_server import QdrantServers


@pytest.fixture
def stores(runner: asyncio.Runner, qdrant: QdrantServers, collection_name: str) -> Iterator[list[QdrantStore]]:
    """Those of two sidecars on one collection."""

    async def make() -> list[QdrantStore]:
        return [QdrantStore(qdrant.collection(collection_name)) for _ in range(2)]

    stores = runner.run(make())
    yield stores
    for store in stores:
        runner.run(store.close())


@pytest.fixture
def store(stores: list[QdrantStore]) -> QdrantStore:
    return stores[0]
