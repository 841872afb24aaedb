"""The embedder in front of a fake TorchServe."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from index_sidecar.embedding.torchserve import TorchServeEmbedder

from ..support.fake_torchserve import FakeTorchServe

TIMEOUT_S = 1.0


@pytest.fixture
def embedder(runner: asyncio.Runner, fake: FakeTorchServe) -> Iterator[TorchServeEmbedder]:
    async def make() -> TorchServeEmbedder:
        return TorchServeEmbedder(fake.url + "/", fake.key_file, TIMEOUT_S, connections=8)

    embedder = runner.run(make())
    yield embedder
    runner.run(embedder.close())
