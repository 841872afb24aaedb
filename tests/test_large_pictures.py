"""Large pictures over the whole stack: all are read, in their turn, within the container's memory, and nobody waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from .support.pictures import file
from .support.real_servers import RealSidecar, TorchServe

_CONTAINER_BYTES = 4 << 30  # docker-compose.yml


@pytest.fixture
def sidecar(torchserve: TorchServe, tmp_path: Path) -> Iterator[RealSidecar]:
    """One with time enough for a machine that is busy with other tests."""
    patient = {"TORCHSERVE_TIMEOUT_S": "120", "QUEUE_S": "10"}
    with RealSidecar(torchserve, tmp_path / "data", **patient) as sidecar:
        sidecar.start()
        yield sidecar


def test_eight_of_100_megapixels_at_once_are_all_read_and_a_neighbours_text_is_soon_answered(
    torchserve: TorchServe, sidecar: RealSidecar
) -> None:
    large = file(Image.new("RGB", (10_000, 10_000), (128, 64, 32)), "PNG", compress_level=1)
    added: list[int] = []

    def add(number: int) -> None:
        added.append(sidecar.post(f"/add_content?id=large-{number}&type=image", large + bytes([number])).status)

    waits: list[float] = []
    statuses: set[int] = set()
    peak_bytes = 0
    adding = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in adding:
        thread.start()
    while any(thread.is_alive() for thread in adding):
        began = time.monotonic()
        statuses.add(sidecar.post("/retrieve?type=text", b"a ship %d" % len(waits)).status)
        waits.append(time.monotonic() - began)
        peak_bytes = max(peak_bytes, _held_bytes(torchserve))
        time.sleep(0.05)
    assert added == [201] * 8
    assert statuses == {200}
    assert sorted(waits)[len(waits) // 2] < 1.0
    assert peak_bytes < _CONTAINER_BYTES


def _held_bytes(torchserve: TorchServe) -> int:
    """By Java, its worker and the decoders; what they share is counted once."""
    assert torchserve.process is not None
    tree = psutil.Process(torchserve.process.pid)
    return sum(_pss_bytes(each) for each in (tree, *tree.children(recursive=True)))


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
