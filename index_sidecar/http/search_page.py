"""The search page: plain files of ours, read at the start. It is a client of the archive like any other (docs/page.md).

Nothing of the page is secret, so it needs no key; what it asks for does. Its Content-Security-Policy is stricter than
that of the contract's page: no script but its own files, and no text that becomes markup (Trusted Types).
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from ..archive.errors import NotFound
from .pages import CSS, HTML, JAVASCRIPT, WEB, Page
from .parameters import Parameter
from .query import Query

SVG = "image/svg+xml"
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
_MEDIA = {"css": CSS, "html": HTML, "js": JAVASCRIPT, "svg": SVG}
# Types, comments and indentation are for who reads the source: a third of it, which browsers need not wait for.
_FOR_READERS = re.compile(r"/\*\*.*?\*/[ \n]?|^\s*//[^\n]*\n|^\s+| // [^\n\"'`]*$", re.DOTALL | re.MULTILINE)
_BLANKS = re.compile(r"(?<=[:;,{}])\s+|\s+(?=[{}])")


def sent(name: str, text: str) -> bytes:
    """A file of the page as browsers are given it."""
    left_out = {"js": _FOR_READERS, "css": _BLANKS}.get(name.rpartition(".")[2])
    return (left_out.sub("", text) if left_out else text).encode()


FILES = {each.name: each.read_text("utf-8") for each in (WEB / "page").iterdir()}
_INDEX = "index.html"
_PAGES = {name: Page(sent(name, text), _MEDIA[name.rpartition(".")[2]], POLICY) for name, text in FILES.items()}


class _Name:
    """The name of a file there is."""

    def read(self, name: str, value: str) -> str:
        """The name as it is. Raises NotFound."""
        if value not in _PAGES or value == _INDEX:
            raise NotFound("the search page has no such file")
        return value

    def schema(self) -> dict[str, Any]:
        """As parameters.Kind says."""
        return {"type": "string"}


FILE = Parameter("file", "a script or a style sheet of the search page", _Name(), required=True)


async def search_page(request: web.Request, query: Query) -> web.Response:
    """The search page, for people."""
    return _PAGES[_INDEX].answer(request)


async def search_page_file(request: web.Request, query: Query) -> web.Response:
    """A script or a style sheet of the search page."""
    return _PAGES[query[FILE]].answer(request)
