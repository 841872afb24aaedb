"""An import that is killed twice brings each content exactly once; `python -m bench.importing` does so with 10,000."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from ..campaign.servers import FakeProcess
from ..support.sidecar import SidecarProcess
from .kills import make, measure


@pytest.mark.servers
async def test_each_once_and_none_missing(tmp_path: Path) -> None:
    ids = make(tmp_path / "in", 300)
    fake = FakeProcess(tmp_path)
    await fake.start()
    try:
        with SidecarProcess(tmp_path / "data", fake.url, fake.key_file, ACCESS="open") as sidecar:
            await asyncio.to_thread(sidecar.start)
            outcome = await asyncio.to_thread(measure, sidecar.url, tmp_path / "in", (80, 180))
    finally:
        fake.kill()
    assert outcome.statuses == [-signal.SIGKILL, -signal.SIGKILL, 3]  # two cannot be added
    assert set(outcome.ids) == ids
    assert set(outcome.ids.values()) == {1}
    assert outcome.letters == ["blank.txt", "broken.png"]
