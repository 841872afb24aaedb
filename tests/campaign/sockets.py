"""Slow, silent and odd clients: they cost nobody else anything, and their sockets are given back."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from ..support.sidecar import AUTHORIZATION
from ..support.wire import request
from .findings import Findings, Row
from .servers import Bench, bench

PART = "sockets"
_LIMITS = {"BODY_IDLE_S": "2", "BODY_TIMEOUT_S": "4", "IDLE_TIMEOUT_S": "3"}
_OVER_S = 12.0  # when every one of them must be gone: BODY_TIMEOUT_S, and 5 s in which the rest is read and forgotten
Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    return await reader.read()


async def _slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    return await _drip(reader, writer, b"POST /retrieve?type=text HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 99)


async def _slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(_post(60000))
    return await _drip(reader, writer, b"x" * 100)


async def _silent_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(_post(60000))
    return await reader.read()


async def _never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    await asyncio.sleep(4)
    writer.transport.abort()
    return b""


async def _half_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(_post(9) + b"half shut")
    writer.write_eof()
    return await reader.read()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    answer = asyncio.create_task(reader.read())
    for number in range(len(data)):
        if answer.done():
            break
        writer.write(data[number : number + 1])
        await asyncio.sleep(0.25)
    return await answer


def _post(length: int) -> bytes:
    return request("/retrieve?type=text", None, f"Content-Length: {length}")


ATTACKS: dict[str, Client] = {
    "say nothing": _silent,
    "send their head byte by byte": _slow_head,
    "send their body byte by byte": _slow_body,
    "announce a body and send none": _silent_body,
    "ask on and on and read nothing": _never_reads,
    "close their half after the request": _half_closed,
}


async def crowd(folder: Path, count: int, names: list[str], tell: Callable[[], None]) -> list[Row]:
    """`count` sockets of each kind at once, beside callers who must not notice."""
    rows = []
    async with bench(folder, **_LIMITS) as it:
        await _ask_beside(it, 20)
        for name in names:
            it.findings = Findings()
            before = it.resources()
            attack = asyncio.gather(*(_attack(it, ATTACKS[name]) for _ in range(count)))
            latencies = await _ask_beside(it, 60)
            held = it.resources().descriptors - before.descriptors
            ended = await attack
            if late := sum(not each for each in ended):
                it.findings.missed.append(f"{late} connections were not ended within {_OVER_S:g} s")
            recovered = time.monotonic()
            while it.resources().descriptors > before.descriptors + 2 and time.monotonic() < recovered + _OVER_S:
                await asyncio.sleep(0.05)
            seconds = time.monotonic() - recovered
            if (left := it.resources().descriptors) > before.descriptors + 2:
                it.findings.leaked.append(f"{left} descriptors after, {before.descriptors} before")
            figures: dict[str, float | int | str] = {
                "descriptors they held": held,
                "median of others ms": round(1000 * statistics.median(latencies), 1),
                "slowest of others ms": round(1000 * max(latencies), 1),
            }
            if statistics.median(latencies) > 0.5:
                it.findings.missed.append(f"others waited {statistics.median(latencies):.2f} s")
            rows.append(Row(PART, f"{count} clients {name}", count, it.findings, seconds, figures))
            tell()
    return rows


async def _attack(it: Bench, client: Client) -> bool:
    """Whether the connection ended within the bound."""
    reader, writer = await asyncio.open_connection("127.0.0.1", it.sidecar.port)
    try:
        async with asyncio.timeout(_OVER_S):
            answer = await client(reader, writer)
        if answer and not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 408", b"HTTP/1.1 503")):
            it.findings.wrong.append(f"answered {answer[:80]!r}")
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    finally:
        writer.transport.abort()


async def _ask_beside(it: Bench, count: int) -> list[float]:
    latencies = []
    async with aiohttp.ClientSession(headers=AUTHORIZATION) as session:
        for _ in range(count):
            began, query = time.monotonic(), it.contents.fresh("text")
            async with session.post(f"{it.url}/retrieve", params={"type": "text"}, data=query) as response:
                if response.status != 200:
                    it.findings.wrong.append(f"a caller beside them was told {response.status}")
            latencies.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
    return latencies


async def pipelined(folder: Path, rounds: int, tell: Callable[[], None]) -> Row:
    """Many requests in one packet: as many answers, in their order."""
    async with bench(folder) as it:
        for number in range(rounds):
            ids = [f"pipelined-{number}-{each}" for each in range(30)]
            reader, writer = await asyncio.open_connection("127.0.0.1", it.sidecar.port)
            for content_id in ids:
                writer.write(request(f"/add_content?id={content_id}&type=text", content_id.encode()))
            told: list[str] = []
            async with asyncio.timeout(120):
                while len(told) < len(ids):
                    head_bytes = await reader.readuntil(b"\r\n\r\n")
                    (length,) = (
                        int(line.split(b":")[1])
                        for line in head_bytes.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    )
                    body = await reader.readexactly(length)
                    told.append(next((each for each in ids if f'"{each}"'.encode() in body), body.decode()))
            writer.close()
            if told != ids:
                it.findings.wrong.append(f"answers came as {told}")
            async with aiohttp.ClientSession(headers=AUTHORIZATION) as session:
                for content_id in ids:
                    async with session.delete(f"{it.url}/contents/{content_id}") as response:
                        if response.status != 204:
                            it.findings.lost.append(content_id)
            tell()
        await it.compare()
        return Row(PART, "30 requests in one packet", rounds, it.findings)
