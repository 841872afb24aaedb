"""HTTP <-> service: parameters in, JSON out, and the one table from errors to statuses."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from . import __version__
from .body import Bodies
from .content import (
    ContentError,
    ContentType,
    Hit,
    InvalidInput,
    NotFound,
    Target,
    TooLarge,
    Unavailable,
    Unsupported,
    check_id,
    check_k,
    check_target,
    check_type,
)
from .ports import Embedder
from .service import ContentService
from .settings import Settings

logger = logging.getLogger(__name__)
access_log = logging.getLogger("index_sidecar.access")

SERVICE = web.AppKey("service", ContentService)
EMBEDDER = web.AppKey("embedder", Embedder)
SETTINGS = web.AppKey("settings", Settings)
BODIES = web.AppKey("bodies", Bodies)
REQUEST_ID = web.RequestKey("request_id", str)

# The nearest class of an error's ancestry decides.
_STATUSES: dict[type[ContentError], int] = {
    InvalidInput: 400,
    TooLarge: 413,
    Unsupported: 415,
    NotFound: 404,
    Unavailable: 503,
}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
# Without a pattern of its own, aiohttp takes no braces here.
_CONTENT = "/contents/{id:[^/]+}"
_SAFE_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(app: web.Application) -> None:
    """Every path of the product, on one screen."""
    app.add_routes(
        [
            web.post("/add_content", add_content),
            web.post("/retrieve", retrieve),
            web.get(_CONTENT, get_content),
            web.delete(_CONTENT, delete_content),
            web.post("/mv_retrieval/v0.1/add_content", add_content),
            web.post("/mv_retrieval/v0.1/retrieve_contents", retrieve_contents),
            web.post("/mv_retrieval/v0.1/recommend_contents", recommend_contents),
            web.get("/index", index),
            web.get("/health", health),
            web.get("/ready", ready),
        ]
    )
    app.middlewares.append(answer)


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request an id, turn its errors into answers, and write one line about it."""
    started = time.perf_counter()
    given = request.headers.get("X-Request-ID", "")
    request[REQUEST_ID] = given if _SAFE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    try:
        response = await handler(request)
    except ContentError as error:
        response = _content_error(request, error)
    except web.HTTPException as error:
        message = f"{error.reason}: {request.method} {request.path}"
        response = _error(request, error.status, _CODES.get(error.status, "http_error"), message)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except ConnectionResetError:
        raise  # the caller has left: nobody to answer
    except Exception:
        logger.exception("unexpected error", extra={"request_id": request[REQUEST_ID]})
        response = _error(request, 500, "internal", "an unexpected error, which the log describes")
    response.headers["X-Request-ID"] = request[REQUEST_ID]
    milliseconds = (time.perf_counter() - started) * 1000
    # The path without its query: ids and users of contents are the archive's business, not the log's.
    line = {"method": request.method, "path": request.path, "status": response.status, "ms": round(milliseconds, 1)}
    access_log.info("request", extra={**line, "request_id": request[REQUEST_ID]})
    return response


def _content_error(request: web.Request, error: ContentError) -> web.Response:
    status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    if error.code == "body_timeout":
        status = 408
    response = _error(request, status, error.code, str(error))
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _error(request: web.Request, status: int, code: str, message: str) -> web.Response:
    error = {"code": code, "message": message, "request_id": request[REQUEST_ID]}
    return web.json_response({"error": error}, status=status)


async def add_content(request: web.Request) -> web.Response:
    """POST /add_content?id=&type=[&user=], the content as the body."""
    started = time.perf_counter()
    content_id = check_id(request.query.get("id"))
    content_type = check_type(request.query.get("type"))
    user = _user(request)
    async with _content(request, content_type) as data:
        added = await request.app[SERVICE].add_content(data, content_id, content_type, user, request[REQUEST_ID])
    messages = {
        "added": f"{content_type} added",
        "unchanged": f"this {content_type} was stored under this id before: nothing changed",
        "replaced": f"{content_type} stored in place of what the id held before",
    }
    body = {
        "id": content_id,
        "type": content_type,
        "status": added.status,
        "duplicate_of": added.duplicate_of,
        "truncated": added.content.embedding.truncated,
        "msg": messages[added.status],
        "time": _seconds_since(started),
    }
    return web.json_response(body, status=201 if added.status == "added" else 200)


async def retrieve(request: web.Request) -> web.Response:
    """POST /retrieve?type=[&k=][&user=][&target=], the query as the body."""
    return await _retrieve(request, check_target(request.query.get("target")))


async def retrieve_contents(request: web.Request) -> web.Response:
    """POST /mv_retrieval/v0.1/retrieve_contents: the historical call, always k of each type."""
    return await _retrieve(request, "each")


async def _retrieve(request: web.Request, target: Target) -> web.Response:
    started = time.perf_counter()
    content_type = check_type(request.query.get("type"))
    k = check_k(request.query.get("k"))
    user = _user(request)
    async with _content(request, content_type) as data:
        found = await request.app[SERVICE].retrieve(data, k, content_type, target, user, request[REQUEST_ID])
    body: dict[str, Any]
    if target == "each":
        body = {content_type: _column(found.hits, content_type) for content_type in ("text", "image")}
    else:
        body = {"contents": [_hit(hit) for hit in found.hits]}
    return web.json_response({**body, "truncated": found.truncated, "time": _seconds_since(started)})


async def recommend_contents(request: web.Request) -> web.Response:
    """POST /mv_retrieval/v0.1/recommend_contents: known to historical clients, not built yet."""
    raise web.HTTPNotImplemented


async def get_content(request: web.Request) -> web.Response:
    """GET /contents/{id}: what is stored, without its vector."""
    content = await request.app[SERVICE].get_content(check_id(request.match_info["id"]))
    body = {
        "id": content.id,
        "type": content.type,
        "user": content.user,
        "sha256": content.sha256.hex(),
        "created": content.created,
        "truncated": content.embedding.truncated,
    }
    return web.json_response(body)


async def delete_content(request: web.Request) -> web.Response:
    """DELETE /contents/{id}: 204 when it is gone for good."""
    await request.app[SERVICE].delete_content(check_id(request.match_info["id"]))
    return web.Response(status=204)


async def index(request: web.Request) -> web.Response:
    """GET /index: how the contents of each type are searched at the moment."""
    return web.json_response({name: asdict(state) for name, state in request.app[SERVICE].index_states().items()})


async def health(request: web.Request) -> web.Response:
    """GET /health: the process lives, and how the things around it are."""
    service = request.app[SERVICE]
    fingerprint = service.fingerprint or service.served
    body = {
        "status": "ok",
        "version": __version__,
        "ready": service.ready,
        "embedder": "available" if request.app[EMBEDDER].answers else "unavailable",
        "model": fingerprint,
        "weights": fingerprint.split(":")[1] if fingerprint else None,
        "contents": service.counts(),
    }
    return web.json_response(body)


async def ready(request: web.Request) -> web.Response:
    """GET /ready: 200 when every call is served, 503 while the index is being built."""
    request.app[SERVICE].check_ready()
    return web.json_response({"status": "ready"})


def _user(request: web.Request) -> str | None:
    return check_id(request.query["user"], "user") if "user" in request.query else None


def _content(request: web.Request, content_type: ContentType) -> Any:
    settings = request.app[SETTINGS]
    limit = settings.max_text_bytes if content_type == "text" else settings.max_image_bytes
    return request.app[BODIES].read(request, limit)


def _hit(hit: Hit) -> dict[str, Any]:
    return {"id": hit.id, "type": hit.type, "user": hit.user, "score": hit.score}


def _column(hits: list[Hit], content_type: str) -> dict[str, list[Any]]:
    chosen = [hit for hit in hits if hit.type == content_type]
    return {"contents": [hit.id for hit in chosen], "scores": [hit.score for hit in chosen]}


def _seconds_since(started: float) -> float:
    return round(time.perf_counter() - started, 4)
