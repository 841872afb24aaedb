"""Every engine behind the index's contract, on the test's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.engines import ENGINES, Engine, FaissEngine, FaissOptions, QdrantEngine


def _parameters() -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.servers] * isinstance(to, str)) for name, to in ENGINES.items()]


@pytest.fixture(params=_parameters())
def engine(request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path: Path) -> Iterator[Engine]:
    """An engine on the test's loop."""
    options = ENGINES[request.param]
    engine: FaissEngine | QdrantEngine
    if isinstance(options, FaissOptions):
        engine = FaissEngine(tmp_path / "data", options)
    else:
        engine = QdrantEngine(request.getfixturevalue(options), request.getfixturevalue("collection_name"))
    runner.run(engine.open())
    yield engine
    runner.run(engine.close())
