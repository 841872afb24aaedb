"""The content of a request, bounded: its size, the time it takes, and the memory all bodies take together."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from ..archive.content import ContentType, Original
from ..archive.errors import TooLarge, Unsupported
from .form import FRAME_BYTES, read_form
from .memory import Memory, Share
from .parameters import TYPE
from .query import Query
from .unpacking import encoding_of, pieces


class Bodies:
    """Reads the body of every request that has one, and holds at most `max_bytes` of them at once.

    `limits` is the size of the largest content of each type. A body may take `timeout_s`, and make us wait `idle_s`
    for its next bytes.
    """

    def __init__(self, max_bytes: int, limits: Mapping[ContentType, int], timeout_s: float, idle_s: float) -> None:
        self._memory = Memory(max_bytes)
        self.limits = limits
        self._timeout_s = timeout_s
        self.idle_s = idle_s
        # So that the next one has room, whatever its size, where nobody else sends.
        self.most_bytes_of_many = min(max_bytes // 8, max_bytes - max(limits.values()))
        """What one call of many contents may hold before it reads on."""

    def share(self) -> Share:
        """What a body, or a part of one, that begins to arrive now will hold."""
        return Share(self._memory, self._timeout_s, self.idle_s)

    def held(self) -> int:
        """Bytes that all bodies hold now."""
        return self._memory.held()

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request, query: Query) -> AsyncIterator[Original]:
        """The body, or the content of a multipart form, whose fields go into `query`.

        Its memory counts until it is released, or the block ends. Raises TooLarge for what is larger than its type may
        be, Unsupported for JSON and for what is compressed in a way we cannot read, Overloaded when too much is held
        already, InvalidInput for a broken body, one that takes too long, and parameters that are missing.
        """
        is_form = request.content_type == "multipart/form-data"
        if not is_form:
            query.check_complete()
        encoding = self._first_look(request, query, is_form)
        await go_on(request)
        share = self.share()
        try:
            arriving = Arriving(share, self._limit(query))
            async with share:
                if is_form:
                    await self._read_form(request, query, arriving)
                else:
                    async for piece in pieces(request.content, encoding):
                        arriving.write(piece)
            query.check_complete()
            if arriving.size > self._limit(query):  # the type may have come after the content
                raise too_large(self._limit(query))
            yield Original(arriving.buffer.getvalue(), arriving.sha256.digest(), share.release)
        finally:
            share.release()

    def _first_look(self, request: web.Request, query: Query, is_form: bool) -> str:
        """How the body is compressed. Raises what can be raised before a byte of the body is here."""
        encoding = encoding_of(request)
        if request.content_type == "application/json" and not query.lenient:
            raise Unsupported("send the content itself as the body, or as the file of a form: no JSON", "not_a_content")
        announced = request.content_length
        if announced is not None and announced > self._limit(query) + (FRAME_BYTES if is_form else 0):
            raise too_large(self._limit(query))
        return encoding

    async def _read_form(self, request: web.Request, query: Query, arriving: Arriving) -> None:
        def write(piece: bytes) -> None:
            if request.content.total_bytes > self._limit(query) + FRAME_BYTES:  # also what is passed over
                raise too_large(self._limit(query))
            arriving.write(piece)

        await read_form(request, query, arriving.begin, write)

    def _limit(self, query: Query) -> int:
        """The limit of the content's type, of the largest one as long as a form has not said it."""
        return self.limits[query[TYPE]] if TYPE in query else max(self.limits.values())


class Arriving:
    """What has arrived of a content so far, and its SHA-256: of 32 MB at once, that would hold everybody up."""

    def __init__(self, share: Share, limit: int) -> None:
        self._share = share
        self._limit = limit
        self.begin()

    def begin(self) -> None:
        """Forget what has arrived."""
        self._share.release()
        self.buffer = io.BytesIO()  # its getvalue makes no copy
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Take the next bytes. Raises TooLarge, Overloaded."""
        self.size += len(piece)
        if self.size > self._limit:
            raise too_large(self._limit)
        self._share.take(len(piece))
        self.buffer.write(piece)
        self.sha256.update(piece)


async def receive(request: web.Request, share: Share, limit: int) -> bytes:
    """A body that is no content, unpacked, of at most `limit` bytes; `share` is charged for it.

    Raises TooLarge, Unsupported, Overloaded and InvalidInput as `Bodies.read`.
    """
    encoding, arriving = encoding_of(request), Arriving(share, limit)
    async with share:
        async for piece in pieces(request.content, encoding):
            arriving.write(piece)
    return arriving.buffer.getvalue()


async def go_on(request: web.Request) -> None:
    """Tell a sender who asks, now that the body is wanted."""
    if request.headers.get("Expect") and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # no part of the answer


def too_large(limit: int) -> TooLarge:
    """The error for a content that is larger than its type may be."""
    return TooLarge(f"the content is larger than the {limit} bytes allowed for its type")
