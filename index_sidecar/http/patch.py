"""The body of a PATCH: a merge patch of metadata."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ..archive.errors import InvalidInput
from ..archive.strict_json import read_json

_MOST_BYTES = 8192
_IN_TIME_S = 10.0


async def read_patch(request: web.Request) -> Any:
    """The JSON value that a body is, whatever its Content-Type. Raises InvalidInput, also where it does not come."""
    data = bytearray()
    try:
        async with asyncio.timeout(_IN_TIME_S):
            async for piece in request.content.iter_any():
                data += piece
                if len(data) > _MOST_BYTES:
                    raise InvalidInput(f"metadata $: a patch has at most {_MOST_BYTES} bytes", "invalid_metadata")
    except (TimeoutError, web.RequestPayloadError) as error:
        raise InvalidInput("metadata $: the patch did not come as a whole", "invalid_metadata") from error
    return read_json(bytes(data), "metadata")
