"""GET /export: all contents as NDJSON, in constant memory, to be asked on for where it breaks off."""

from __future__ import annotations

import asyncio
import base64

import msgspec
from aiohttp import web
from msgspec import Struct

from ..archive.content import Content
from ..archive.errors import ContentError
from ..archive.exporter import Exported, ExportedPage, Exporter
from ..archive.search import Listed
from . import answers, failures
from .guard import say_to_browsers
from .lines import CursorLine, ExportedContent, ExportEndLine, ExportFailedLine, ExportSummary
from .many import NDJSON
from .parameters import AFTER, FILTER, OF_TYPE, OF_USER, PREVIEWS, VECTORS
from .query import Query

EXPORTER = web.AppKey("exporter", Exporter)
STREAMED = {"Content-Type": NDJSON, "X-Accel-Buffering": "no"}  # nginx would keep lines back
_WRITE_S = 30.0  # for a caller who does not read


async def export(request: web.Request, query: Query) -> web.StreamResponse:
    """All contents, each once, a line of JSON for each: with `vectors` and `previews`, all that an archive holds."""
    of = Listed(query.get(OF_USER), query.get(OF_TYPE), query.get(FILTER))
    pages = request.app[EXPORTER].pages(of, query.get(AFTER), query[VECTORS] == "true", query[PREVIEWS] == "true")
    page = await anext(pages)  # what fails before the first line has a status of its own
    response = web.StreamResponse(headers=STREAMED)
    answers.name_request(response)
    say_to_browsers(request, response)
    await response.prepare(request)
    count = 0
    try:
        while True:
            count += len(page.contents)
            await _write(response, _lines(page))
            if page.next is None:
                break
            page = await anext(pages)
        await _write(response, _written(ExportEndLine(ExportSummary(count))))
    except ContentError as error:
        await _write(response, _written(ExportFailedLine(failures.told(error))))
    await response.write_eof()
    return response


def _lines(page: ExportedPage) -> bytes:
    lines = [_written(_line(each)) for each in page.contents]
    return b"".join(lines if page.next is None else [*lines, _written(CursorLine(page.next))])


def _line(exported: Exported) -> ExportedContent:
    content = exported.content
    vector = model = None
    if isinstance(content, Content):
        vector = base64.b64encode(content.embedding.vector.astype("<f4").tobytes()).decode()
        model, content = content.embedding.fingerprint, content.entry
    return ExportedContent(
        content.id,
        content.type,
        content.user,
        content.sha256.hex(),
        content.created,
        content.truncated,
        dict(content.metadata),
        vector,
        model,
        None if exported.preview is None else base64.b64encode(exported.preview).decode(),
    )


def _written(line: Struct) -> bytes:
    return msgspec.json.encode(line) + b"\n"


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Raises ConnectionResetError where the caller reads nothing."""
    try:
        async with asyncio.timeout(_WRITE_S):
            if data:
                await response.write(data)
    except TimeoutError:
        raise ConnectionResetError("the caller does not read the answer") from None
