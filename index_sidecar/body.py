"""The content of a request, bounded: its size, the time it takes, and the memory all bodies take together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from .content import InvalidInput, Overloaded, TooLarge

_CHUNK_BYTES = 1 << 16
_MULTIPART_FRAME_BYTES = 4096


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
        size = limit if announced is None else min(announced, limit)
        if size > self._free:
            raise Overloaded("too many contents are being received at once; try again shortly")
        self._free -= size
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    body = await (_multipart(request, limit) if multipart else _raw(request.content, limit))
            except TimeoutError:
                raise InvalidInput(f"the body did not arrive within {self._timeout_s:g} s", "body_timeout") from None
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
    try:
        part = await (await request.multipart()).next()
        if not isinstance(part, aiohttp.BodyPartReader):
            raise InvalidInput("the form has no file field: send the content as its first field", "invalid_body")
        body = bytearray()
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
        return bytes(body)
    except (ValueError, AssertionError) as error:
        raise InvalidInput("the multipart form is broken", "invalid_body") from error
