"""A multipart form: one part is the content, others may be parameters.

The content is the part with a file name, or the one named `file`. In a form with neither, it is the only part that is
no parameter, which earlier clients name as they like. What else a form holds is passed over.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

from ..archive.errors import InvalidInput, Unsupported
from .parameters import Parameter
from .query import Query
from .unpacking import broken

FRAME_BYTES = 1 << 16  # what boundaries, headers and fields may take beside the content
PIECE_BYTES = 1 << 16
_MOST_PARTS = 64
_HEADER_BYTES = 8190  # of one of a part's, as of a request's
# aiohttp only warns of a part whose name it cannot read: then it would be lost, and what it says be in our log.
for _warning in (aiohttp.BadContentDispositionHeader, aiohttp.BadContentDispositionParam):
    warnings.filterwarnings("error", category=_warning)
_AS_IT_IS = ("", "7bit", "8bit", "binary", "identity")


def form_of(request: web.Request, header_bytes: int = _HEADER_BYTES) -> aiohttp.MultipartReader:
    """The form that a body is, with so long a header a part. Raises InvalidInput."""
    try:
        return aiohttp.MultipartReader(request.headers, request.content, max_field_size=header_bytes)
    except (ValueError, AssertionError) as error:
        raise broken() from error


async def read_form(
    request: web.Request, query: Query, begin: Callable[[], None], write: Callable[[bytes], None]
) -> None:
    """`begin` and `write` the content as it arrives (anew where a better part is found); fields go into `query`.

    Raises InvalidInput, or what aiohttp raises for what is no form.
    """
    form = form_of(request)
    has_file, others = False, 0
    for _ in range(_MOST_PARTS):
        part = await next_part(form)
        if part is None:
            break
        check_part(part)
        if part.filename is not None or part.name == "file":
            if has_file:
                raise _invalid("the form holds two files: send one content a call")
            has_file = True
            begin()
            await copy(part, write)
        elif parameter := query.known(part.name):
            query.add(parameter.name, await field(part, parameter))
        elif has_file:
            await part.release()
        else:
            others += 1
            begin()
            await copy(part, write)
    else:
        raise _invalid(f"the form has more than {_MOST_PARTS} parts")
    if not has_file and others != 1:
        raise _invalid("the form has no file: send the content as a part with a file name, or named file")


async def next_part(form: aiohttp.MultipartReader) -> aiohttp.BodyPartReader | None:
    """The next part; None at the end. Raises InvalidInput for a form within the form, or what aiohttp raises."""
    part = await form.next()
    if part is not None and not isinstance(part, aiohttp.BodyPartReader):
        raise _invalid("the form holds another form")
    return part


def check_part(part: aiohttp.BodyPartReader) -> None:
    """Raises Unsupported for one that would have to be decoded."""
    said = [part.headers.get(name, "").lower() for name in ("Content-Transfer-Encoding", "Content-Encoding")]
    if not set(said).issubset(_AS_IT_IS):
        raise Unsupported("a part of the form is encoded: send it as it is", "unsupported_encoding")


async def copy(part: aiohttp.BodyPartReader, write: Callable[[bytes], None]) -> None:
    """`write` what a part holds, as it arrives."""
    while not part.at_eof():
        write(await part.read_chunk(PIECE_BYTES))


async def field(part: aiohttp.BodyPartReader, parameter: Parameter[Any]) -> bytes:
    """The value of a parameter. Raises InvalidInput for one that is too long."""
    value = b""
    while not part.at_eof():
        value += await part.read_chunk(PIECE_BYTES)
        if len(value) > parameter.most_bytes:
            raise _invalid(f"the field {parameter.name} is longer than {parameter.most_bytes} bytes")
    return value


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, "invalid_body")
