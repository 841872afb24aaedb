"""What the service gives -> the JSON of an answer, by the types of shapes.py."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from ..archive.content import CONTENT_TYPES, Content, ContentType, Entry, Hit, IndexState, Page
from ..archive.grouping import Recommendation
from ..archive.recommender import Recommended
from ..archive.request_id import request_id
from ..archive.results import Added, Erased, Retrieved
from ..archive.search import Search
from .shapes import (
    AddAnswer,
    Because,
    Columns,
    ColumnsOfEach,
    ContentAnswer,
    Duplicates,
    EraseAnswer,
    EraseUserAnswer,
    FoundContent,
    IndexAnswer,
    Metadata,
    NearDuplicate,
    PageAnswer,
    RecommendAnswer,
    RecommendByHistoryAnswer,
    RecommendEachAnswer,
    RecommendedContent,
    RecommendedList,
    RetrieveAnswer,
    RetrieveEachAnswer,
    SimilarAnswer,
    SimilarEachAnswer,
)

PREVIEW_TYPES = {"text": "text/plain; charset=utf-8", "image": "image/webp"}


def name_request(answer: web.StreamResponse) -> None:
    """Say the request's id in the answer's head, too."""
    answer.headers["X-Request-ID"] = request_id.get() or ""


def json(what: Struct, status: int = 200) -> web.Response:
    """An answer as its type has it, on one line, with blanks for the people who read it with curl."""
    body = msgspec.json.format(msgspec.json.encode(what), indent=0)
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")


def added(result: Added, named_near: bool, started: float) -> web.Response:
    """What became of an add; near duplicates only where they were asked for."""
    return json(what_became(result, named_near, started), 201 if result.status == "added" else 200)


def what_became(result: Added, named_near: bool, started: float) -> AddAnswer:
    """As `added`, one line of several."""
    content = result.content
    messages = {
        "added": f"{content.type} added",
        "unchanged": f"this {content.type} was stored under this id before: nothing changed",
        "replaced": f"{content.type} stored in place of what the id held before",
    }
    near = [NearDuplicate(near.id, near.score) for near in result.near_duplicates]
    return AddAnswer(
        id=content.id,
        type=content.type,
        status=result.status,
        duplicate_of=result.duplicate_of,
        truncated=content.embedding.truncated,
        msg=messages[result.status],
        time=_seconds_since(started),
        near_duplicates=near if named_near else UNSET,
        overwritten=UNSET if result.overwritten else False,
    )


def erased(result: Erased) -> web.Response:
    """204 is the promise that no file holds anything of it."""
    return web.Response(status=204) if result.overwritten else json(EraseAnswer(overwritten=False))


def user_erased(result: Erased) -> web.Response:
    """How many; and, where it is so, that their bytes are still in a file."""
    return json(EraseUserAnswer(result.count, UNSET if result.overwritten else False))


def retrieved(result: Retrieved, search: Search, started: float) -> web.Response:
    """Hits in one list, or in columns a type when each was asked for."""
    if search.target == "each":
        text, image = _columns_of(result.hits, search.with_metadata)
        return json(RetrieveEachAnswer(text, image, result.truncated, _seconds_since(started)))
    return json(RetrieveAnswer(_found(result.hits), result.truncated, _seconds_since(started)))


def similar(hits: Sequence[Hit], search: Search, started: float) -> web.Response:
    """As `retrieved`, for what is similar to a stored content."""
    if search.target == "each":
        return json(SimilarEachAnswer(*_columns_of(hits, search.with_metadata), _seconds_since(started)))
    return json(SimilarAnswer(_found(hits), _seconds_since(started)))


def recommended(result: Recommended, search: Search, started: float) -> web.Response:
    """Recommendations, each with the content of the history it follows from, in one list or in one a type."""
    if search.target == "each":
        text, image = (
            RecommendedList(_reasoned(each for each in result.recommendations if each.hit.type == content_type))
            for content_type in CONTENT_TYPES
        )
        return json(RecommendEachAnswer(text, image, result.reason, _seconds_since(started)))
    return json(RecommendAnswer(_reasoned(result.recommendations), result.reason, _seconds_since(started)))


def recommended_by_history(results: dict[ContentType, Recommended], started: float) -> web.Response:
    """The historical shape: type of the history -> type recommended -> columns."""
    text, image = (
        ColumnsOfEach(*_columns_of([each.hit for each in results[history_type].recommendations]))
        for history_type in CONTENT_TYPES
    )
    return json(RecommendByHistoryAnswer(text, image, _seconds_since(started)))


def content(stored: Entry, has_original: bool | UnsetType = UNSET) -> ContentAnswer:
    """What is stored of a content, without its vector; whether its original is kept, where that was looked up."""
    return ContentAnswer(
        stored.id,
        stored.type,
        stored.user,
        stored.sha256.hex(),
        stored.created,
        stored.truncated,
        dict(stored.metadata),
        has_original,
    )


def page(some: Page) -> web.Response:
    """Some contents and the cursor to the next ones."""
    return json(PageAnswer([content(each) for each in some.contents], some.next))


def index(states: dict[ContentType, IndexState]) -> web.Response:
    """How each type is searched."""
    return json(IndexAnswer(states["text"], states["image"]))


def preview(request: web.Request, stored: Content, data: bytes) -> web.Response:
    """A preview that no browser takes for a page or a script, and that no cache shows once the content is gone."""
    headers = {
        "Cache-Control": "private, no-cache",  # kept, but asked for each time: it may have been erased
        "Content-Security-Policy": "default-src 'none'",
        "Content-Type": PREVIEW_TYPES[stored.type],
    }
    return tagged(request, f"{stored.sha256.hex()}-{stored.type}", data, headers)


def tagged(request: web.Request, etag: str, body: bytes, headers: dict[str, str]) -> web.Response:
    """What a caller may keep by its ETag: 304 where it has this one."""
    headers = {**headers, "ETag": f'"{etag}"'}
    if any(each.value in (etag, "*") for each in request.if_none_match or ()):
        del headers["Content-Type"]
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)


def _found(hits: Sequence[Hit]) -> list[FoundContent]:
    return [FoundContent(*_facts(hit)) for hit in hits]


def _facts(hit: Hit) -> tuple[Any, ...]:
    """In the order of FoundContent."""
    return hit.id, hit.type, hit.user, hit.score, hit.relevance, _copies(hit), _told(hit)


def _copies(hit: Hit) -> Duplicates | UnsetType:
    return UNSET if hit.duplicates is None else Duplicates(hit.duplicates.count, hit.duplicates.ids)


def _told(hit: Hit) -> Metadata | UnsetType:
    return UNSET if hit.metadata is None else dict(hit.metadata)


def _columns_of(hits: Sequence[Hit], with_metadata: bool = False) -> tuple[Columns, Columns]:
    """Of the texts, and of the images."""
    text, image = ([hit for hit in hits if hit.type == content_type] for content_type in CONTENT_TYPES)
    return _columns(text, with_metadata), _columns(image, with_metadata)


def _columns(hits: Sequence[Hit], with_metadata: bool) -> Columns:
    told = [dict(hit.metadata) for hit in hits if hit.metadata is not None]
    return Columns([hit.id for hit in hits], [hit.score for hit in hits], told if with_metadata else UNSET)


def _reasoned(recommendations: Iterable[Recommendation]) -> list[RecommendedContent]:
    return [
        RecommendedContent(
            *_facts(each.hit),
            because=Because(each.seed.content.id, each.seed.kind),
        )
        for each in recommendations
    ]


def _seconds_since(started: float) -> float:
    return round(time.perf_counter() - started, 4)
