"""The content of a request, bounded: its size, the time it takes, and the memory all bodies take together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ..archive.errors import InvalidInput, Overloaded, TooLarge

_CHUNK_BYTES = 1 << 16
_MULTIPART_FRAME_BYTES = 4096
# What aiohttp raises for bytes that are not what their headers say.
_BROKEN = (ValueError, AssertionError, RuntimeError, HttpProcessingError, web.RequestPayloadError)


class Bodies:
    """Reads the body of every request, and holds at most `max_bytes` of them at once."""

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._free = max_bytes
        self._timeout_s = timeout_s

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request, limit: int) -> AsyncIterator[bytes]:
        """The raw body, or the first field of a multipart form; its memory counts until the block ends.

        Raises TooLarge past `limit` bytes, Overloaded when too much is held already, InvalidInput for a broken body
        or one that takes too long.
        """
        multipart = request.content_type == "multipart/form-data"
        announced = request.content_length
        if announced is not None and announced > limit + (_MULTIPART_FRAME_BYTES if multipart else 0):
            raise _too_large(limit)
        # Of a compressed body the length says nothing of what it becomes.
        compressed = "Content-Encoding" in request.headers
        size = limit if announced is None or compressed else min(announced, limit)
        if size > self._free:
            raise Overloaded("too many contents are being received at once; try again shortly")
        self._free -= size
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    body = await (_multipart(request, limit) if multipart else _raw(request.content, limit))
            except TimeoutError:
                raise InvalidInput(f"the body did not arrive within {self._timeout_s:g} s", "body_timeout") from None
            except _BROKEN as error:
                raise InvalidInput("the body is no valid form, or not compressed as it says", "invalid_body") from error
            yield body
        finally:
            self._free += size


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the content is larger than the {limit} bytes allowed for its type")


async def _raw(stream: aiohttp.StreamReader, limit: int) -> bytes:
    body = bytearray()
    async for chunk in stream.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


async def _multipart(request: web.Request, limit: int) -> bytes:
    form = await request.multipart()
    part = await form.next()
    if not isinstance(part, aiohttp.BodyPartReader):
        raise InvalidInput("the form has no file field: send the content as its first field", "invalid_body")
    body = bytearray()
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    await form.next()  # fails where no boundary follows: then the field was cut off
    return bytes(body)
