"""An answer of many lines of JSON, each as it comes."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web
from msgspec import Struct

NDJSON = "application/x-ndjson"
_HEADERS = {"Content-Type": NDJSON, "X-Accel-Buffering": "no"}  # nginx would keep lines back
_WAITING_BYTES = 1 << 20  # what a caller who sends first and reads then may leave unread


class Lines:
    """Writes the answer; its head goes out with the first lines."""

    def __init__(self, request: web.Request, within_s: float) -> None:
        """`within_s`: how long the caller may read nothing, past what waits for that in memory."""
        self._request = request
        self._within_s = within_s
        self._turn = asyncio.Lock()
        self._response = web.StreamResponse(headers=_HEADERS)

    async def write(self, *lines: Struct) -> None:
        """Write some lines. Raises ConnectionResetError where the caller has left, or reads nothing."""
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        async with self._turn:
            try:
                async with asyncio.timeout(self._within_s):
                    if not self._response.prepared:
                        self._hold(_WAITING_BYTES)
                        await self._response.prepare(self._request)
                    if data:
                        await self._response.write(data)
            except TimeoutError:
                raise ConnectionResetError("the caller does not read the answer") from None

    async def end(self) -> web.StreamResponse:
        """The answer, written to its end."""
        await self._response.write_eof()
        self._hold(None)
        return self._response

    def _hold(self, most_bytes: int | None) -> None:
        """How much of what is written waits for its reader before the writer does; None for asyncio's own measure."""
        if self._request.transport is not None:
            self._request.transport.set_write_buffer_limits(most_bytes)
