"""A multipart form: one part is the content, others may be parameters.

The content is the part with a file name, or the one named `file`. In a form with neither, it is the only part that is
no parameter, which earlier clients name as they like. What else a form holds is passed over.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import aiohttp
from aiohttp import web

from ..archive.errors import InvalidInput, Unsupported
from .query import Query

FRAME_BYTES = 1 << 16  # what boundaries, headers and fields may take beside the content
_PIECE_BYTES = 1 << 16
_FIELD_BYTES = 1 << 12
_MOST_PARTS = 64
# aiohttp only warns of a part whose name it cannot read: then it would be lost, and what it says be in our log.
for _warning in (aiohttp.BadContentDispositionHeader, aiohttp.BadContentDispositionParam):
    warnings.filterwarnings("error", category=_warning)
_AS_IT_IS = ("", "7bit", "8bit", "binary")


async def read_form(
    request: web.Request, query: Query, begin: Callable[[], None], write: Callable[[bytes], None]
) -> None:
    """`begin` and `write` the content as it arrives (anew where a better part is found); fields go into `query`.

    Raises InvalidInput, or what aiohttp raises for what is no form.
    """
    form = await request.multipart()
    has_file, others = False, 0
    for _ in range(_MOST_PARTS):
        part = await form.next()
        if part is None:
            break
        if not isinstance(part, aiohttp.BodyPartReader):
            raise _invalid("the form holds another form")
        if part.headers.get("Content-Transfer-Encoding", "").lower() not in _AS_IT_IS:
            raise Unsupported("a part of the form is encoded: send it as it is", "unsupported_encoding")
        if part.filename is not None or part.name == "file":
            if has_file:
                raise _invalid("the form holds two files: send one content a call")
            has_file = True
            begin()
            await _copy(part, write)
        elif part.name is not None and query.takes(part.name):
            query.add(part.name, await _field(part))
        elif has_file:
            await part.release()
        else:
            others += 1
            begin()
            await _copy(part, write)
    else:
        raise _invalid(f"the form has more than {_MOST_PARTS} parts")
    if not has_file and others != 1:
        raise _invalid("the form has no file: send the content as a part with a file name, or named file")


async def _copy(part: aiohttp.BodyPartReader, write: Callable[[bytes], None]) -> None:
    while not part.at_eof():
        write(await part.read_chunk(_PIECE_BYTES))


async def _field(part: aiohttp.BodyPartReader) -> bytes:
    value = b""
    while not part.at_eof():
        value += await part.read_chunk(_PIECE_BYTES)
        if len(value) > _FIELD_BYTES:
            raise _invalid(f"the field {part.name} is longer than {_FIELD_BYTES} bytes")
    return value


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, "invalid_body")
