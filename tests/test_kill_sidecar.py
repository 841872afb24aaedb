"""kill -9 at any moment loses nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from .support.sidecar import ROOT, SidecarProcess, path_of

ROUNDS = 20
ADDS = 500


@pytest.fixture
def sidecar_process(tmp_path: Path) -> Iterator[SidecarProcess]:
    """A sidecar process in front of a fake TorchServe process, which outlives it."""
    key_file, port_file = tmp_path / "key_file.json", tmp_path / "port"
    command = [sys.executable, "-m", "tests.support.fake_torchserve", "--delay-ms", "2"]
    command += ["--key-file", str(key_file), "--port-file", str(port_file)]
    fake = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + 30
        while not (port_file.exists() and port_file.read_text()):
            assert fake.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with SidecarProcess(tmp_path / "data", f"http://127.0.0.1:{port_file.read_text()}", key_file) as process:
            yield process
    finally:
        fake.kill()
        fake.wait()


def _text(content_id: str) -> bytes:
    return f"the text of {content_id}".encode()


async def _add_until_killed(process: SidecarProcess, ids: list[str], after: int, pause_s: float) -> list[str]:
    """Add all ids at once, kill the sidecar `pause_s` after so many were acknowledged; the acknowledged ids."""
    acknowledged: list[str] = []
    enough = asyncio.Event()

    async def add(content_id: str) -> None:
        params = {"id": content_id, "type": "text"}
        try:
            async with session.post(f"{process.url}/add_content", params=params, data=_text(content_id)) as response:
                assert response.status == 201
        except aiohttp.ClientError:
            return  # killed: nothing was promised
        acknowledged.append(content_id)
        if len(acknowledged) >= after:
            enough.set()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=ADDS)) as session:
        adds = asyncio.gather(*(add(content_id) for content_id in ids))
        await asyncio.wait_for(enough.wait(), 60)
        await asyncio.sleep(pause_s)
        process.stop(signal.SIGKILL)
        await adds
    return acknowledged


async def _lost(process: SidecarProcess, ids: list[str]) -> list[str]:
    """Which of these ids cannot be looked up, or not be found by their own text."""

    async def is_lost(content_id: str) -> bool:
        async with session.get(process.url + path_of(content_id)) as response:
            if response.status != 200:
                return True
        params = {"type": "text", "k": "1"}
        async with session.post(f"{process.url}/retrieve", params=params, data=_text(content_id)) as response:
            (hit,) = (await response.json())["contents"]
            return not (hit["id"] == content_id and hit["score"] >= 0.9999)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:
        lost = await asyncio.gather(*(is_lost(content_id) for content_id in ids))
        return [content_id for content_id, gone in zip(ids, lost, strict=True) if gone]


async def _indexed(process: SidecarProcess) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{process.url}/health") as response:
        return int((await response.json())["contents"]["text"])


async def test_what_was_acknowledged_survives_any_kill(sidecar_process: SidecarProcess, tmp_path: Path) -> None:
    numbers = random.Random(9)
    # From the first acknowledgement to the last but one; the pause moves the kill to before, into or behind a commit.
    moments = [1 + round(number * (ADDS - 2) / (ROUNDS - 1)) for number in range(ROUNDS)]
    acknowledged: list[str] = []
    cut = 0
    sidecar_process.start()
    for number, after in enumerate(moments):
        ids = [f"round {number} content {i}" for i in range(ADDS)]
        added = await _add_until_killed(sidecar_process, ids, after, numbers.choice((0, 0.001, 0.003, 0.006)))
        assert len(added) >= after
        cut += len(added) < ADDS
        acknowledged += added
        sidecar_process.start()
        assert await _lost(sidecar_process, added) == []
    assert cut >= ROUNDS // 2, "most rounds ended before the kill: they have shown nothing"

    assert await _lost(sidecar_process, acknowledged[::7]) == []  # nor did a later round take anything away
    indexed = await _indexed(sidecar_process)
    assert sidecar_process.stop() == 0
    with closing(sqlite3.connect(tmp_path / "data" / "contents.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM contents").fetchone() == (indexed,)
    assert len(acknowledged) <= indexed <= ROUNDS * ADDS
    print(f"{cut} of {ROUNDS} rounds were cut; {len(acknowledged)} contents acknowledged, {indexed} stored")
