"""Every call of the product: its path, what answers it, the parameters it takes, and what it gives.

No proxy keeps every id whole within a path. So each call that names an id or a user in its path can be made with it as
a parameter, too: at the path without that segment. openapi.py writes the contract from this table.
"""

from __future__ import annotations

import re
from dataclasses import replace

from aiohttp import web

from ..access.roles import Role
from . import export, handlers, lines, many, metrics, original, pages, patch, retrieval, search_page, status
from .answers import PREVIEW_TYPES
from .call import Call, Gives
from .codes import Meets
from .parameters import (
    ERASED_USER,
    ID,
    TAKEN_BY_ADD,
    TAKEN_BY_EXPORT,
    TAKEN_BY_LIST,
    TAKEN_BY_OLD_RECOMMEND,
    TAKEN_BY_OLD_RETRIEVE,
    TAKEN_BY_RECOMMEND,
    TAKEN_BY_RETRIEVE,
    TAKEN_BY_SIMILAR,
)
from .search_body import SearchBody
from .shapes import (
    AddAnswer,
    CallerAnswer,
    ContentAnswer,
    EraseAnswer,
    EraseUserAnswer,
    HealthAnswer,
    IndexAnswer,
    PageAnswer,
    RecommendAnswer,
    RecommendByHistoryAnswer,
    RecommendEachAnswer,
    RetrieveAnswer,
    RetrieveEachAnswer,
    SimilarAnswer,
    SimilarEachAnswer,
    StatusAnswer,
)

_STORE = (Meets.STORE,)
_CONTENT = (Meets.STORE, Meets.ID)
_SEARCH = (Meets.STORE, Meets.INDEX)
_NEIGHBOURS = (*_SEARCH, Meets.ID)
_QUERY = (*_SEARCH, Meets.BODY, Meets.MODEL)
_ADDING = (*_QUERY, Meets.WRITE, Meets.NEW)
_ADDING_MANY = (*_ADDING, Meets.MANY)
_PARTS = (*_QUERY, Meets.PARTS, Meets.ID)
_ERASING = (*_SEARCH, Meets.WRITE)
_ERASING_ONE = (*_ERASING, Meets.ID)
_PREVIEW = (*_CONTENT, Meets.PREVIEW)
_ORIGINAL = (*_CONTENT, Meets.ORIGINAL)

_ADDED = (
    Gives(201, "added: durable, and found", (AddAnswer,)),
    Gives(200, "replaced, or unchanged for the same bytes, type and user again", (AddAnswer,)),
)
_LINES = "a line of JSON for each part, in any order, then a summary: look at its `failed`"
_ADDED_MANY = (Gives(200, _LINES, lines=(lines.AddedLine, lines.FailedLine, lines.SummaryLine)),)
_RETRIEVED = (Gives(200, "the most similar contents", (RetrieveAnswer, RetrieveEachAnswer)),)
_RECOMMENDED = (Gives(200, "new contents, each with its reason", (RecommendAnswer, RecommendEachAnswer)),)
_EXPORTED_LINES = "a line of JSON for each, and where to go on; last a summary, without which it was cut off"
_OF_EXPORT = (lines.ExportedContent, lines.CursorLine, lines.ExportEndLine, lines.ExportFailedLine)
_EXPORTED = (Gives(200, _EXPORTED_LINES, lines=_OF_EXPORT),)
_STORED = (Gives(200, "what is stored", (ContentAnswer,)),)
_PAGE = (Gives(200, "a page of contents; with `id`, that content alone", (PageAnswer, ContentAnswer)),)
_CACHED = ("ETag", "Cache-Control")
_FRESH = Gives(304, "what has the ETag of If-None-Match is still the right one", headers=_CACHED)
_SEEN = (
    Gives(
        200,
        "a WebP of at most 256 pixels, or the first 500 characters",
        media=tuple(PREVIEW_TYPES.values()),
        headers=_CACHED,
    ),
    _FRESH,
)
# Without an id, a path that ends so is that of the content called so.
_SEEN_OR_STORED = (replace(_SEEN[0], json=(ContentAnswer,)), _FRESH)
_SAVED = ("Accept-Ranges", "Content-Disposition", *_CACHED)
_BYTES = (
    Gives(200, "the bytes as they came", media=original.MEDIA, headers=_SAVED),
    Gives(206, "those that Range asks for", media=original.MEDIA, headers=("Content-Range", *_SAVED)),
    replace(_FRESH, headers=_SAVED),
)
_BYTES_OR_STORED = (replace(_BYTES[0], json=(ContentAnswer,)), *_BYTES[1:])
_ALIKE = (Gives(200, "the most similar other contents", (SimilarAnswer, SimilarEachAnswer)),)
_ALIKE_OR_STORED = (replace(_ALIKE[0], json=(SimilarAnswer, SimilarEachAnswer, ContentAnswer)),)
_ERASED = (
    Gives(204, "erased, from every file of ours"),
    Gives(200, "erased from all answers; its bytes are still in a file of ours", (EraseAnswer,)),
)
_USER_ERASED = (Gives(200, "how many were erased", (EraseUserAnswer,)),)
_OLD_FOUND = (Gives(200, "k of each type", (RetrieveEachAnswer,)),)
_OLD_RECOMMENDED = (Gives(200, "k of each type for each history", (RecommendByHistoryAnswer,)),)
_INDEX = (Gives(200, "how each type is searched", (IndexAnswer,)),)
_HEALTH = (Gives(200, "all of it; without a key only that the process lives", (HealthAnswer, StatusAnswer)),)
_METRICS = (Gives(200, "in the form that Accept asks for", media=metrics.MEDIA),)
_LIVES = (Gives(200, "the process lives", (StatusAnswer,)),)
_READY = (Gives(200, "every call is served", (StatusAnswer,)),)
_CONTRACT = (Gives(200, "this document", media=("application/json",)),)
_DOCS = (Gives(200, "the page", media=(pages.HTML,), headers=_CACHED), _FRESH)
_SCRIPT = (Gives(200, "a script", media=(pages.JAVASCRIPT,), headers=_CACHED), _FRESH)
_STYLE = (Gives(200, "a style sheet", media=(pages.CSS,), headers=_CACHED), _FRESH)
_PART = (Gives(200, "the file", media=(pages.JAVASCRIPT, pages.CSS, search_page.SVG), headers=_CACHED), _FRESH)
_CALLER = (Gives(200, "the caller's role and user; null for strangers", (CallerAnswer,)),)
_WRITER = Role.WRITER
_OLD = "/mv_retrieval/v0.1"
_ADD_MANY = (many.add_contents, _ADDED_MANY)
_PATCH = (patch.patch_content, _STORED, (ID,), _WRITER)

CALLS = (
    Call("POST", "/add_content", handlers.add_content, _ADDED, TAKEN_BY_ADD, _WRITER, meeting=_ADDING),
    Call("POST", "/retrieve", retrieval.retrieve, _RETRIEVED, TAKEN_BY_RETRIEVE, meeting=_QUERY),
    Call("POST", "/search", retrieval.search, _RETRIEVED, meeting=_PARTS, sends=SearchBody),
    Call("POST", "/recommend", retrieval.recommend, _RECOMMENDED, TAKEN_BY_RECOMMEND, meeting=_SEARCH),
    Call("POST", "/contents", *_ADD_MANY, role=_WRITER, meeting=_ADDING_MANY, fields=many.FIELDS),
    Call("GET", "/contents", handlers.get_contents, _PAGE, TAKEN_BY_LIST, meeting=_CONTENT),
    Call("GET", "/contents/{id}", handlers.get_content, _STORED, (ID,), meeting=_CONTENT),
    Call("PATCH", "/contents", *_PATCH, meeting=_ERASING_ONE, name="patch_content_by_parameter", takes_patch=True),
    Call("PATCH", "/contents/{id}", *_PATCH, meeting=_ERASING_ONE, takes_patch=True),
    Call(
        "DELETE",
        "/contents",
        handlers.delete_content,
        _ERASED,
        (ID,),
        _WRITER,
        meeting=_ERASING_ONE,
        name="delete_content_by_parameter",
    ),
    Call("DELETE", "/contents/{id}", handlers.delete_content, _ERASED, (ID,), _WRITER, meeting=_ERASING_ONE),
    Call("GET", "/contents/preview", handlers.get_preview_by_parameter, _SEEN_OR_STORED, (ID,), meeting=_PREVIEW),
    Call("GET", "/contents/{id}/preview", handlers.get_preview, _SEEN, (ID,), meeting=_PREVIEW),
    Call("GET", "/contents/original", original.get_original_by_parameter, _BYTES_OR_STORED, (ID,), meeting=_ORIGINAL),
    Call("GET", "/contents/{id}/original", original.get_original, _BYTES, (ID,), meeting=_ORIGINAL),
    Call(
        "GET",
        "/contents/similar",
        retrieval.get_similar_by_parameter,
        _ALIKE_OR_STORED,
        TAKEN_BY_SIMILAR,
        meeting=_NEIGHBOURS,
    ),
    Call("GET", "/contents/{id}/similar", retrieval.get_similar, _ALIKE, TAKEN_BY_SIMILAR, meeting=_NEIGHBOURS),
    Call(
        "DELETE",
        "/users/contents",
        handlers.delete_user,
        _USER_ERASED,
        (ERASED_USER,),
        _WRITER,
        meeting=_ERASING,
        name="delete_user_by_parameter",
    ),
    Call(
        "DELETE",
        "/users/{user}/contents",
        handlers.delete_user,
        _USER_ERASED,
        (ERASED_USER,),
        _WRITER,
        meeting=_ERASING,
    ),
    Call(
        "POST",
        f"{_OLD}/add_content",
        handlers.add_content,
        _ADDED,
        TAKEN_BY_ADD,
        _WRITER,
        lenient=True,
        meeting=_ADDING,
        name="mv_add_content",
    ),
    Call(
        "POST",
        f"{_OLD}/retrieve_contents",
        retrieval.retrieve_contents,
        _OLD_FOUND,
        TAKEN_BY_OLD_RETRIEVE,
        lenient=True,
        meeting=_QUERY,
    ),
    Call(
        "POST",
        f"{_OLD}/recommend_contents",
        retrieval.recommend_contents,
        _OLD_RECOMMENDED,
        TAKEN_BY_OLD_RECOMMEND,
        lenient=True,
        meeting=_SEARCH,
    ),
    Call("GET", "/export", export.export, _EXPORTED, TAKEN_BY_EXPORT, Role.ADMIN, meeting=_STORE),
    Call("GET", "/index", status.index, _INDEX, meeting=_STORE),
    Call("GET", "/health", status.health, _HEALTH, role=None),
    Call("GET", "/metrics", metrics.metrics, _METRICS, role=Role.ADMIN),
    Call("GET", "/livez", status.livez, _LIVES, role=None),
    Call("GET", "/ready", status.ready, _READY, role=None, meeting=(*_SEARCH, Meets.MODEL)),
    Call("GET", "/caller", status.caller, _CALLER, role=None),
    Call("GET", "/openapi.json", pages.contract, _CONTRACT, role=None),
    Call("GET", "/docs", pages.docs, _DOCS, role=None),
    Call("GET", "/docs/start.js", pages.docs_start, _SCRIPT, role=None),
    Call("GET", "/docs/swagger-ui-bundle.js", pages.docs_script, _SCRIPT, role=None),
    Call("GET", "/docs/swagger-ui.css", pages.docs_style, _STYLE, role=None),
    Call("GET", "/", search_page.search_page, _DOCS, role=None),
    Call("GET", "/page/{file}", search_page.search_page_file, _PART, (search_page.FILE,), role=None),
)


def add_routes(app: web.Application) -> None:
    """Let the application answer every call; HEAD wherever GET is."""
    for call in CALLS:
        # Without a pattern of its own, aiohttp takes no braces for a segment.
        path = re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", call.path)
        for method in (call.method, "HEAD") if call.method == "GET" else (call.method,):
            app.router.add_route(method, path, call.handle, expect_handler=_expect_nothing_yet)


async def _expect_nothing_yet(request: web.Request) -> None:
    """`Expect: 100-continue` is answered where the body is read, after a look at its size."""
