"""PATCH of a content: a merge patch of its metadata."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ..archive.errors import InvalidInput
from ..archive.strict_json import read_json
from . import answers
from .auth import ACCESS, only_user_of
from .handlers import SERVICE
from .parameters import ID
from .query import Query

_MOST_BYTES = 8192
_IN_TIME_S = 10.0


async def patch_content(request: web.Request, query: Query) -> web.Response:
    """Change the metadata of a content by a merge patch (RFC 7396), without asking the model."""
    only_user, patch = only_user_of(request), await _read_patch(request)
    changed = await request.app[SERVICE].change_metadata(query[ID], patch, only_user)
    request.app[ACCESS].audit(request, "metadata changed", 1, query[ID])
    return answers.json(answers.content(changed.entry))


async def _read_patch(request: web.Request) -> Any:
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
