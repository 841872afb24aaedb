"""The contract as a document, and as a page to read and try: Swagger UI, vendored, which asks nobody but us.

The page has a Content-Security-Policy of its own: scripts, styles and requests of this origin alone.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from aiohttp import web

from . import answers
from .call import Answer
from .query import Query

CONTRACT = web.AppKey("contract", bytes)

HTML = "text/html; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
CSS = "text/css; charset=utf-8"
WEB = resources.files(__package__) / "web"
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


async def contract(request: web.Request, query: Query) -> web.Response:
    """This document: every call, parameter, answer and error."""
    return web.Response(body=request.app[CONTRACT], content_type="application/json", charset="utf-8")


class Page:
    """A file of ours, as browsers are given it: kept, but asked for each time, and within the bounds of its policy."""

    def __init__(self, body: bytes, media: str, policy: str) -> None:
        self._body = body
        self._etag = hashlib.sha256(body).hexdigest()
        self._headers = {"Content-Type": media, "Content-Security-Policy": policy, "Cache-Control": "no-cache"}

    def answer(self, request: web.Request) -> web.Response:
        """The file; 304 where the browser has it."""
        return answers.tagged(request, self._etag, self._body, self._headers)


def _file(name: str, path: str, media: str, summary: str) -> Answer:
    """What answers with a file of ours; `name` is what the contract calls it."""
    page = Page((WEB / path).read_bytes(), media, _POLICY)

    async def answer(request: web.Request, query: Query) -> web.Response:
        return page.answer(request)

    answer.__name__, answer.__doc__ = name, summary
    return answer


docs = _file("docs", "docs.html", HTML, "This contract as a page to read and try.")
docs_start = _file("docs_start", "start.js", JAVASCRIPT, "Starts the page of the contract.")
docs_script = _file("docs_script", "vendor/swagger-ui-bundle.js", JAVASCRIPT, "Swagger UI, of which the page is made.")
docs_style = _file("docs_style", "vendor/swagger-ui.css", CSS, "How the page looks.")
