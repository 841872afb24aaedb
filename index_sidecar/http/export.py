"""GET /export: all contents as NDJSON, in constant memory, to be asked on for where it breaks off."""

from __future__ import annotations

import base64

from aiohttp import web

from ..archive.content import Content
from ..archive.errors import ContentError
from ..archive.exporter import Exported, Exporter
from ..archive.search import Listed
from . import failures
from .lines import CursorLine, ExportedContent, ExportEndLine, ExportFailedLine, ExportSummary
from .ndjson import Lines
from .parameters import AFTER, FILTER, OF_TYPE, OF_USER, ORIGINALS, PREVIEWS, VECTORS
from .query import Query

EXPORTER = web.AppKey("exporter", Exporter)
_READ_S = 30.0  # a caller may leave the answer unread


async def export(request: web.Request, query: Query) -> web.StreamResponse:
    """All contents, each once, a line of JSON for each; with all that can be said, all but pictures."""
    of = Listed(query.get(OF_USER), query.get(OF_TYPE), query.get(FILTER))
    with_what = [query[each] == "true" for each in (VECTORS, PREVIEWS, ORIGINALS)]
    pages = request.app[EXPORTER].pages(of, query.get(AFTER), *with_what)
    page = await anext(pages)  # what fails before the first line has a status of its own
    lines, count = Lines(request, _READ_S), 0
    try:
        while True:
            count += len(page.contents)
            await lines.write(*map(_line, page.contents))
            if page.next is None:
                break
            await lines.write(CursorLine(page.next))
            page = await anext(pages)
        await lines.write(ExportEndLine(ExportSummary(count)))
    except ContentError as error:
        await lines.write(ExportFailedLine(failures.told(error)))
    return await lines.end()


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
        _written(exported.preview),
        _written(exported.original),
    )


def _written(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
