"""What the service gives -> the JSON of an answer, and the one table from errors to statuses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from ..archive.content import CONTENT_TYPES, Content, ContentType, Entry, Hit, Page, Target
from ..archive.errors import (
    ContentError,
    Forbidden,
    InvalidInput,
    Misdirected,
    NotFound,
    StorageFull,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from ..archive.grouping import Recommendation
from ..archive.recommender import Recommended
from ..archive.request_id import request_id
from ..archive.results import Added, Erased

# The nearest class of an error's ancestry decides.
_STATUSES: dict[type[ContentError], int] = {
    InvalidInput: 400,
    TooLarge: 413,
    Unsupported: 415,
    NotFound: 404,
    Unauthorized: 401,
    Forbidden: 403,
    Misdirected: 421,
    TooManyRequests: 429,
    Unavailable: 503,
    StorageFull: 507,
}
_CODES = {404: "not_found", 405: "method_not_allowed"}
_MEDIA_TYPES = {"text": "text/plain; charset=utf-8", "image": "image/webp"}


def content_error(failure: ContentError) -> web.Response:
    """The answer to a request that ends without its result."""
    status = next(_STATUSES[kind] for kind in type(failure).__mro__ if kind in _STATUSES)
    if failure.code == "body_timeout":
        status = 408
    response = error(status, failure.code, str(failure))
    if isinstance(failure, Unauthorized):
        # RFC 6750: a request without a key is told the scheme alone.
        told = ', error="invalid_token"' if failure.code == "invalid_key" else ""
        response.headers["WWW-Authenticate"] = f'Bearer realm="clip-archive"{told}'
    if isinstance(failure, Unavailable | TooManyRequests):
        response.headers["Retry-After"] = str(failure.retry_after_s)
    return response


def http_error(failure: web.HTTPException, asked: str) -> web.Response:
    """The answer where `asked`, a method and a path, is no call of ours."""
    response = error(failure.status, _CODES.get(failure.status, "http_error"), f"{failure.reason}: {asked}")
    if "Allow" in failure.headers:
        response.headers["Allow"] = failure.headers["Allow"]
    return response


def internal_error() -> web.Response:
    """The answer to what nobody foresaw: it says nothing of us."""
    return error(500, "internal", "an unexpected error, which the log describes")


def name_request(answer: web.StreamResponse) -> None:
    """Say the request's id in the answer's head, too."""
    answer.headers["X-Request-ID"] = request_id.get() or ""


def error(status: int, code: str, message: str) -> web.Response:
    """The one shape all errors have."""
    body = {"error": {"code": code, "message": message, "request_id": request_id.get()}}
    return web.json_response(body, status=status)


def added(result: Added, named_near: bool, started: float) -> web.Response:
    """What became of an add; near duplicates only where they were asked for."""
    content = result.content
    messages = {
        "added": f"{content.type} added",
        "unchanged": f"this {content.type} was stored under this id before: nothing changed",
        "replaced": f"{content.type} stored in place of what the id held before",
    }
    body = {
        "id": content.id,
        "type": content.type,
        "status": result.status,
        "duplicate_of": result.duplicate_of,
        "truncated": content.embedding.truncated,
        "msg": messages[result.status],
        "time": _seconds_since(started),
    }
    if named_near:
        body["near_duplicates"] = [{"id": near.id, "score": near.score} for near in result.near_duplicates]
    if not result.overwritten:
        body["overwritten"] = False
    return web.json_response(body, status=201 if result.status == "added" else 200)


def erased(result: Erased) -> web.Response:
    """204 is the promise that no file holds anything of it."""
    return web.Response(status=204) if result.overwritten else web.json_response({"overwritten": False})


def user_erased(result: Erased) -> web.Response:
    """How many; and, where it is so, that their bytes are still in a file."""
    return web.json_response({"deleted": result.count, **({} if result.overwritten else {"overwritten": False})})


def found(hits: Sequence[Hit], target: Target, started: float, **more: Any) -> web.Response:
    """Hits in one list, or in columns a type when each was asked for."""
    body: dict[str, Any]
    if target == "each":
        body = {each: _columns([hit for hit in hits if hit.type == each]) for each in CONTENT_TYPES}
    else:
        body = {"contents": [_hit(hit) for hit in hits]}
    return web.json_response({**body, **more, "time": _seconds_since(started)})


def recommended(result: Recommended, target: Target, started: float) -> web.Response:
    """Recommendations, each with the content of the history it follows from, in one list or in one a type."""
    body: dict[str, Any]
    if target == "each":
        body = {each: {"contents": _reasoned(result.recommendations, (each,))} for each in CONTENT_TYPES}
    else:
        body = {"contents": _reasoned(result.recommendations, CONTENT_TYPES)}
    return web.json_response({**body, "reason": result.reason, "time": _seconds_since(started)})


def recommended_by_history(results: dict[ContentType, Recommended], started: float) -> web.Response:
    """The historical shape: type of the history -> type recommended -> columns."""
    body: dict[str, Any] = {}
    for history_type, result in results.items():
        hits = [each.hit for each in result.recommendations]
        body[history_type] = {each: _columns([hit for hit in hits if hit.type == each]) for each in CONTENT_TYPES}
    return web.json_response({**body, "time": _seconds_since(started)})


def content(stored: Entry) -> dict[str, Any]:
    """What is stored of a content, without its vector."""
    return {
        "id": stored.id,
        "type": stored.type,
        "user": stored.user,
        "sha256": stored.sha256.hex(),
        "created": stored.created,
        "truncated": stored.truncated,
    }


def page(some: Page) -> web.Response:
    """Some contents and the cursor to the next ones."""
    return web.json_response({"contents": [content(each) for each in some.contents], "next": some.next})


def preview(request: web.Request, stored: Content, data: bytes) -> web.Response:
    """A preview that no browser takes for a page or a script, and that no cache shows once the content is gone."""
    etag = f"{stored.sha256.hex()}-{stored.type}"
    headers = {
        "Cache-Control": "private, no-cache",  # kept, but asked for each time: it may have been erased
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'",
        "ETag": f'"{etag}"',
    }
    if any(each.value in (etag, "*") for each in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=data, headers={**headers, "Content-Type": _MEDIA_TYPES[stored.type]})


def _hit(hit: Hit) -> dict[str, Any]:
    return {"id": hit.id, "type": hit.type, "user": hit.user, "score": hit.score, "relevance": hit.relevance}


def _columns(hits: Sequence[Hit]) -> dict[str, list[Any]]:
    return {"contents": [hit.id for hit in hits], "scores": [hit.score for hit in hits]}


def _reasoned(recommendations: Sequence[Recommendation], types: Sequence[ContentType]) -> list[dict[str, Any]]:
    return [
        {**_hit(each.hit), "because": {"id": each.seed.content.id, "kind": each.seed.kind}}
        for each in recommendations
        if each.hit.type in types
    ]


def _seconds_since(started: float) -> float:
    return round(time.perf_counter() - started, 4)
