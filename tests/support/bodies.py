"""Bodies as clients send them: in chunks, as forms, and cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from .sidecar import Reply, Sidecar
from .wire import request

TEXT_LIMIT, IMAGE_LIMIT = 64 * 1024, 32 * 1024 * 1024


BOUNDARY = "frontier"


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


async def in_chunks(data: bytes) -> AsyncIterator[bytes]:
    """A body without Content-Length."""
    for start in range(0, len(data), 1 << 18):
        yield data[start : start + (1 << 18)]


def form_of(data: bytes, *headers: str) -> bytes:
    head = "\r\n".join((f"--{BOUNDARY}", 'Content-Disposition: form-data; name="file"; filename="a"', *headers))
    return head.encode() + b"\r\n\r\n" + data + f"\r\n--{BOUNDARY}--\r\n".encode()


async def post_form(sidecar: Sidecar, body: object, content_type: str = "text") -> Reply:
    return await sidecar.call("POST", f"/add_content?id=a&type={content_type}", body, headers=FORM)


async def send_raw(sidecar: Sidecar, head: str, body: bytes, leave: bool = False) -> bytes:
    """What a client that sends these bytes gets for an answer; none when it leaves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.client.server.port)
    writer.write(request("/add_content?id=a&type=text", None, *head.split("\r\n")) + body)
    await writer.drain()
    await asyncio.sleep(0.05)
    answer = b"" if leave else await reader.read(10_000)
    writer.close()
    await writer.wait_closed()
    return answer
