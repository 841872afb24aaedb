"""GET /contents/{id}/original: the bytes of a content as they came, whole or a range of them (RFC 9110, 14).

They are anybody's bytes: browsers are told to save them, and to run nothing of them. They are read a piece at a time,
so that a large picture holds up nobody; what is erased meanwhile is cut off, and so is a caller who reads nothing.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from aiohttp import web

from ..archive.content import Content
from ..archive.errors import ContentError
from ..archive.ports import Kept
from . import failures
from .handlers import SERVICE, get_content_called
from .middlewares import CODE
from .parameters import ID
from .query import Query

TEXT = "text/plain; charset=utf-8"
# What a picture's first bytes say: at which place, and what it is then.
_SIGNS = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypavis", "image/avif"),
    (4, b"ftyp", "image/heic"),
)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)
_OTHERS = "application/octet-stream"
MEDIA = (TEXT, *dict.fromkeys(media for _, _, media in _SIGNS), _OTHERS)
_HEAD_BYTES = 16
_PIECE_BYTES = 1 << 18
_READ_S = 30.0  # a caller may leave a piece unread


@dataclass(frozen=True)
class _Part:
    """From where to where, and whether that is all that was asked for."""

    start: int
    stop: int
    is_range: bool


async def get_original(request: web.Request, query: Query) -> web.StreamResponse:
    """The bytes of a content as they came, to be saved."""
    content, kept = await request.app[SERVICE].originals.open(query[ID])
    try:
        return await _answer(request, content, kept)
    finally:
        kept.close()


async def get_original_by_parameter(request: web.Request, query: Query) -> web.StreamResponse:
    """The original of a content; without an id, the content whose id is the last segment of this path."""
    return await (get_original(request, query) if ID in query else get_content_called("original", request))


async def _answer(request: web.Request, content: Content, kept: Kept) -> web.StreamResponse:
    etag = content.sha256.hex()
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",  # kept, but asked for each time: it may have been erased
        "Content-Disposition": "attachment",  # without a name: the caller's own says more than it should
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
        "ETag": f'"{etag}"',
    }
    if any(each.value in (etag, "*") for each in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    part = _part(request, kept.size, etag)
    if part is None:
        request[CODE] = "unsatisfiable_range"
        refused = failures.error(request[CODE], f"the original has {kept.size} bytes, of which the range names none")
        refused.headers["Content-Range"] = f"bytes */{kept.size}"
        return refused
    headers["Content-Type"] = TEXT if content.type == "text" else _media(await kept.read(0, _HEAD_BYTES))
    if part.is_range:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{kept.size}"
    response = web.StreamResponse(status=206 if part.is_range else 200, headers=headers)
    response.content_length = part.stop - part.start
    return response if request.method == "HEAD" else await _send(request, response, kept, part)


async def _send(request: web.Request, response: web.StreamResponse, kept: Kept, part: _Part) -> web.StreamResponse:
    """The answer, written to its end. Raises ConnectionResetError where that cannot be."""
    at, piece = part.start, await kept.read(part.start, min(_PIECE_BYTES, part.stop - part.start))
    try:
        async with asyncio.timeout(_READ_S) as patience:
            await response.prepare(request)
            while piece:
                await response.write(piece)
                patience.reschedule(asyncio.get_running_loop().time() + _READ_S)
                at += len(piece)
                piece = await kept.read(at, min(_PIECE_BYTES, part.stop - at)) if at < part.stop else b""
            await response.write_eof()
    except TimeoutError:
        raise ConnectionResetError("the caller does not read the original") from None
    except ContentError as error:  # the head has gone out, so that only the end of the connection tells
        raise ConnectionResetError("the original cannot be read to its end") from error
    return response


def _part(request: web.Request, size: int, etag: str) -> _Part | None:
    """What is asked for; None where there is nothing of it. What is no single range of bytes is as if not said."""
    whole = _Part(0, size, is_range=False)
    # A date is none of ours, and never the same; `If-Range` takes no weak tag.
    if request.method != "GET" or request.headers.get("If-Range", f'"{etag}"') != f'"{etag}"':
        return whole
    asked = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if asked is None or not (asked[1] or asked[2]):
        return whole
    if not asked[1]:
        start, stop = max(0, size - int(asked[2])), size
    else:
        start, stop = int(asked[1]), min(size, int(asked[2]) + 1) if asked[2] else size
        if asked[2] and int(asked[2]) < start:
            return whole
    return _Part(start, stop, is_range=True) if start < stop else None


def _media(head: bytes) -> str:
    """What a picture that begins so is; a browser that knows better is told not to look."""
    return next((media for at, sign, media in _SIGNS if head.startswith(sign, at)), _OTHERS)
