"""Snapshots that are broken, old, missing or refused by the disk: the store is read, and the restart is right."""

from __future__ import annotations

import asyncio
import io
import json
import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ..support.snapshots import ROWS, Archive, restart, start
from ..support.vectors import built, contents_of


def _parts(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data)) as parts:
        return dict(parts)


def _whole(parts: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **parts)
    return file.getvalue()


def _head(data: bytes, **changes: object) -> bytes:
    parts = _parts(data)
    head = json.loads(parts["head"].tobytes()) | changes
    return _whole(parts | {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)})


HARM: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "last byte": lambda data: data[:-1],
    "of an older program": lambda _: b"clipidx2" + bytes(5000),
    "not what Faiss has written": lambda data: _whole(_parts(data) | {"state": np.zeros(1000, np.uint8)}),
    "half of what Faiss has written": lambda data: _whole(_parts(data) | {"state": _parts(data)["state"][:2000]}),
    "lists that are not there": lambda data: _whole(_parts(data) | {"lists": _parts(data)["lists"] + 10**6}),
    "lists before the first": lambda data: _whole(_parts(data) | {"lists": _parts(data)["lists"] - 10**6}),
    "lists and prints that do not match": lambda data: _whole(_parts(data) | {"lists": _parts(data)["lists"][:-1]}),
    "lists of another type": lambda data: _whole(_parts(data) | {"lists": _parts(data)["lists"].astype(np.float64)}),
    "of before nothing learned was a vector": lambda data: _head(data, form=1),
    "another model's": lambda data: _head(data, fingerprint="another"),
    "another type's": lambda data: _head(data, type="text"),
    "a field more": lambda data: _head(data, more=1),
    "a field's type": lambda data: _head(data, reached="much"),
    "no header": lambda data: _whole({name: part for name, part in _parts(data).items() if name != "head"}),
}


@pytest.mark.parametrize("harm", HARM)
async def test_what_cannot_be_used_is_deleted_and_the_store_read(
    archive: Archive, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    await archive.close()
    archive.file.write_bytes(HARM[harm](archive.file.read_bytes()))
    before = archive.file.stat().st_ino
    assert f"image index: exact, {ROWS} contents" in await start(archive, caplog)
    assert "snapshot is deleted" in caplog.text
    await built(archive.index)
    assert archive.file.stat().st_ino != before or archive.file.stat().st_size > 5000
    await archive.check()


async def test_one_flipped_byte_anywhere_does_no_harm(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    data = archive.file.read_bytes()
    for place in [0, 9, *range(400, len(data), len(data) // 12), len(data) - 30, len(data) - 1]:
        broken = bytearray(data)
        broken[place] ^= 0x10
        archive.file.write_bytes(broken)
        log = await start(archive, caplog)  # which checks all answers
        # A few bytes, the dates of the parts, say nothing; of what we read, none is believed.
        assert "exact" in log or not 400 < place < len(data) - 600, place
        await archive.close()
    archive.file.write_bytes(data)
    assert f"approximate, {ROWS} contents, 0 of" in await start(archive, caplog)


async def test_a_missing_snapshot_and_a_leftover_of_a_crash(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    leftovers = [
        archive.file.rename(archive.file.with_suffix(".tmp")),
        archive.file.with_suffix(".0a1b2c3d.tmp"),
    ]
    leftovers[1].write_bytes(b"an older program's")
    assert f"exact, {ROWS} contents" in await start(archive, caplog)
    await built(archive.index)
    assert not any(leftover.exists() for leftover in leftovers)


async def test_a_disk_that_takes_no_snapshot_stops_nothing(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    more = contents_of(ROWS // 5, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (archive.file.stat().st_size // 2, hard))
    try:
        await archive.index.upsert(more)
        async with asyncio.timeout(20):
            while "could not be written" not in caplog.text:
                await asyncio.sleep(0.005)
        while (await archive.index.state("image")).snapshot == "writing":
            await asyncio.sleep(0.005)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(archive.folder.glob("index-*")) == []
    archive.contents |= {content.id: content for content in more}
    await archive.check()
    await asyncio.gather(*(archive.store.put(content) for content in more))
    # At the end it is tried once more.
    assert f"approximate, {len(archive.contents)} contents, 0 of them unknown" in await restart(archive, caplog)
