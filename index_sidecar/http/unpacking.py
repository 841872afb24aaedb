"""A body as it was sent -> the bytes it stands for, in pieces: plain, or compressed by gzip or deflate."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ..archive.errors import InvalidInput, TooLarge, Unsupported

# What aiohttp raises for bytes that are not what their headers say.
BROKEN = (ValueError, AssertionError, RuntimeError, RuntimeWarning, HttpProcessingError, web.RequestPayloadError)
_PIECE_BYTES = 1 << 16
# Of what grows more than this, hardly anything was in it; small bodies may, for they cost nothing.
_MOST_RATIO = 200
_FREE_BYTES = 1 << 20


def encoding_of(request: web.Request) -> str:
    """How the body is compressed: gzip, deflate or identity; a form must not be, as a whole. Raises Unsupported."""
    encoding = ",".join(request.headers.getall("Content-Encoding", ["identity"])).strip().lower()
    encoding = {"x-gzip": "gzip", "": "identity"}.get(encoding, encoding)
    if encoding not in ("gzip", "deflate", "identity"):
        raise Unsupported("Content-Encoding must be gzip or deflate, or be left out", "unsupported_encoding")
    if encoding != "identity" and request.content_type == "multipart/form-data":
        raise Unsupported("a form must not be compressed as a whole", "unsupported_encoding")
    return encoding


async def pieces(stream: aiohttp.StreamReader, encoding: str) -> AsyncIterator[bytes]:
    """What arrives, unpacked, as it arrives. Raises InvalidInput where it is broken or ends too early."""
    if encoding == "identity":
        while data := await stream.read(_PIECE_BYTES):
            yield data
        return
    unpacker = _Unpacker(encoding)
    while packed := await stream.read(_PIECE_BYTES):
        for data in unpacker.unpack(packed):
            yield data
            await asyncio.sleep(0)  # a small packet may hold much: others have their turn between its pieces
    if not unpacker.complete:
        raise broken()


class _Unpacker:
    def __init__(self, encoding: str) -> None:
        self._gzip = encoding == "gzip"
        self._stream: zlib._Decompress | None = None
        self._packed_bytes = 0
        self._unpacked_bytes = 0

    @property
    def complete(self) -> bool:
        """Whether the end of the compressed data was seen, with the right checksum."""
        return self._stream is not None and self._stream.eof

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        """What these bytes, the next ones, stand for."""
        self._packed_bytes += len(packed)
        more = False
        while packed or more:
            if self._stream is None or (self._stream.eof and self._gzip):  # gzip is one or several files in a row
                self._stream = zlib.decompressobj(self._window_bits(packed))
            elif self._stream.eof:
                raise broken()
            try:
                data = self._stream.decompress(packed, _PIECE_BYTES)
            except zlib.error:
                raise broken() from None
            packed = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            more = len(data) == _PIECE_BYTES and not self._stream.eof
            self._unpacked_bytes += len(data)
            if self._unpacked_bytes > max(_FREE_BYTES, _MOST_RATIO * self._packed_bytes):
                raise TooLarge(f"the body grows to more than {_MOST_RATIO} times its size: send it uncompressed")
            if data:
                yield data

    def _window_bits(self, packed: bytes) -> int:
        if self._gzip:
            return 16 + zlib.MAX_WBITS
        # "deflate" means zlib's frame; some senders leave the frame away.
        return zlib.MAX_WBITS if packed[0] & 0x0F == 8 else -zlib.MAX_WBITS


def broken() -> InvalidInput:
    """The error for bytes that are not what their headers say."""
    return InvalidInput("the body is no valid form, or cut off, or not compressed as it says", "invalid_body")
