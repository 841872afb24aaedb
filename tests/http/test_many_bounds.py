"""POST /contents under load: what it holds, whom it keeps waiting, and who leaves or does not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import psutil
import pytest

from index_sidecar.settings import Settings

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import AUTHORIZATION, BEARER, Sidecar, SidecarProcess, running

BOUNDARY = "x-boundary-x"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
MB = 1 << 20


def _part(data: bytes, **parameters: str) -> bytes:
    head = f'Content-Disposition: form-data; name="content"\r\nX-Content-Parameters: {urlencode(parameters)}\r\n\r\n'
    return f"--{BOUNDARY}\r\n{head}".encode() + data + b"\r\n"


async def _pictures(name: str, count: int, size: int) -> AsyncIterator[bytes]:
    """A form of so many pictures, made as it is sent."""
    for number in range(count):
        yield _part((PNG + f"{name} {number} ".encode()).ljust(size, b"x"), id=f"{name} {number}", type="image")
    yield f"--{BOUNDARY}--\r\n".encode()


async def _send(session: aiohttp.ClientSession, url: str, form: Any) -> list[Any]:
    async with session.post(f"{url}/contents", data=form, headers=FORM) as response:
        assert response.status == 200, await response.text()
        return [json.loads(line) async for line in response.content]


def _added(lines: list[Any]) -> int:
    summary = lines[-1]["summary"]
    assert summary == {"added": summary["added"], "replaced": 0, "unchanged": 0, "failed": 0, "complete": True}, lines
    assert len(lines) == summary["added"] + 1
    return int(summary["added"])


async def test_its_memory_is_bounded_and_nothing_is_refused_for_want_of_it(
    fake: FakeTorchServe, tmp_path: Path
) -> None:
    limits = {"MAX_INFLIGHT_BYTES": str(32 * MB), "MAX_IMAGE_BYTES": str(MB), "PREVIEWS": "false", "QUEUE_S": "30"}
    with SidecarProcess(tmp_path / "data", fake.url, fake.key_file, **limits) as sidecar:
        await asyncio.to_thread(sidecar.start)
        assert sidecar.process is not None
        process = psutil.Process(sidecar.process.pid)
        async with aiohttp.ClientSession(headers=AUTHORIZATION) as session:
            form = b"".join(_part(b"%d" % n, id=f"text {n}", type="text", user="ann") for n in range(9))
            assert _added(await _send(session, sidecar.url, form + f"--{BOUNDARY}--\r\n".encode())) == 9
            async with session.post(f"{sidecar.url}/recommend?user=ann") as response:
                assert response.status == 200  # what that imports is in memory from now on
            assert _added(await _send(session, sidecar.url, _pictures("warm", 32, MB))) == 32
            before, peak = process.memory_info().rss, 0
            sending = [_send(session, sidecar.url, _pictures(f"call {number}", 128, MB)) for number in range(3)]
            answers = asyncio.gather(*sending)
            while not answers.done():
                peak = max(peak, process.memory_info().rss)
                await asyncio.sleep(0.005)
    assert [_added(lines) for lines in await answers] == [128] * 3
    assert peak - before < 64 * MB  # of 384 that were sent, 32 of them at once


async def test_one_that_may_hold_one_content_waits_for_itself(settings: Settings) -> None:
    settings = replace(settings, max_image_bytes=MB, max_inflight_bytes=MB)
    async with running(settings) as sidecar:
        lines = await _send(sidecar.client.session, sidecar.url, _pictures("a", 10, MB))
        assert _added(lines) == 10


async def _same_bytes(sidecar: Sidecar) -> list[str]:
    """Ids of a hundred contents of the same bytes, which from then on a line of 26 KB names each time they come."""
    ids = [f"{number:03}".ljust(256, "x") for number in range(100)]
    form = b"".join(_part(b"the same", id=each, type="text") for each in ids) + f"--{BOUNDARY}--\r\n".encode()
    assert _added(await _send(sidecar.client.session, sidecar.url, form)) == 100
    return ids


async def _connect(sidecar: Sidecar, parts: Iterable[bytes]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a form whole, through a socket that takes little in."""
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", sidecar.client.server.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1)  # it reads no further than it is asked to
    headers = {**FORM, **BEARER, "Host": "localhost", "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /contents HTTP/1.1\r\n{head}\r\n".encode() + body)
    await writer.drain()
    return reader, writer


async def test_who_sends_all_first_may_read_later(settings: Settings) -> None:
    async with running(replace(settings, body_idle_s=1)) as sidecar:
        await _same_bytes(sidecar)
        reader, writer = await _connect(sidecar, (_part(b"the same", id=f"{n}", type="text") for n in range(35)))
        await asyncio.sleep(2.5)
        answer = bytearray()
        while piece := await reader.read(1 << 16):
            answer += piece
        assert b'"summary":{"added":35,' in answer
        writer.close()


async def test_who_never_reads_is_left_and_holds_nobodys_memory(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = replace(settings, body_idle_s=2, max_image_bytes=MB, max_inflight_bytes=MB)
    async with running(settings) as sidecar:
        await _same_bytes(sidecar)
        known = (PNG + b"known ").ljust(900_000, b"x")
        assert (await sidecar.add("known", known, "image")).status == 201
        texts = (_part(b"the same", id=f"{number}", type="text") for number in range(200))
        more = (_part(known, id=f"picture {number}", type="image") for number in range(3))
        reader, writer = await _connect(sidecar, (*texts, *more))
        for _ in range(80):  # another's content needs nearly all the memory there is
            assert (await sidecar.add("other", PNG.ljust(900_000, b"\x00"), "image")).status in (200, 201)
            await asyncio.sleep(0.05)
        answer = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(1 << 16):
                answer += piece
        assert b'"summary"' not in answer
        writer.close()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
