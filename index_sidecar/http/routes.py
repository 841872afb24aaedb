"""HTTP <-> service: which path asks for what. parameters.py reads the queries, answers.py writes the answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from .. import __version__
from ..archive.content import CONTENT_TYPES, ContentType, Target, check_id, check_type
from ..archive.errors import ContentError, StorageUnavailable
from ..archive.ports import Embedder
from ..archive.service import ContentService
from ..settings import Settings
from . import answers, parameters
from .body import Bodies

logger = logging.getLogger(__name__)
access_log = logging.getLogger("index_sidecar.access")

SERVICE = web.AppKey("service", ContentService)
EMBEDDER = web.AppKey("embedder", Embedder)
SETTINGS = web.AppKey("settings", Settings)
BODIES = web.AppKey("bodies", Bodies)
REQUEST_ID = web.RequestKey("request_id", str)

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
# Without a pattern of its own, aiohttp takes no braces here.
_CONTENT = "/contents/{id:[^/]+}"
_HEALTH_S = 2.0  # whoever asks for our health must not wait for the storage's
_SAFE_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(app: web.Application) -> None:
    """Every path of the product, on one screen."""
    app.add_routes(
        [
            web.post("/add_content", add_content),
            web.post("/retrieve", retrieve),
            web.post("/recommend", recommend),
            web.get("/contents", get_contents),
            web.get(_CONTENT, get_content),
            web.delete(_CONTENT, delete_content),
            web.get(_CONTENT + "/preview", get_preview),
            web.get(_CONTENT + "/similar", get_similar),
            web.delete("/users/{user:[^/]+}/contents", delete_user),
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
        response = answers.content_error(request[REQUEST_ID], error)
    except web.HTTPException as error:
        message = f"{error.reason}: {request.method} {request.path}"
        code = _CODES.get(error.status, "http_error")
        response = answers.error(request[REQUEST_ID], error.status, code, message)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except ConnectionResetError:
        raise  # the caller has left: nobody to answer
    except Exception:
        logger.exception("unexpected error", extra={"request_id": request[REQUEST_ID]})
        message = "an unexpected error, which the log describes"
        response = answers.error(request[REQUEST_ID], 500, "internal", message)
    response.headers["X-Request-ID"] = request[REQUEST_ID]
    milliseconds = (time.perf_counter() - started) * 1000
    # The path without its query: ids and users of contents are the archive's business, not the log's.
    line = {"method": request.method, "path": request.path, "status": response.status, "ms": round(milliseconds, 1)}
    access_log.info("request", extra={**line, "request_id": request[REQUEST_ID]})
    return response


async def add_content(request: web.Request) -> web.Response:
    """POST /add_content?id=&type=[&user=][&near=], the content as the body."""
    started = time.perf_counter()
    content_id = check_id(request.query.get("id"))
    content_type = check_type(request.query.get("type"))
    user = parameters.user(request)
    near = parameters.number(request, "near", 0, 1)
    async with _content(request, content_type) as data:
        service, request_id = request.app[SERVICE], request[REQUEST_ID]
        added = await service.add_content(data, content_id, content_type, user, request_id, near)
    return answers.added(added, near is not None, started)


async def retrieve(request: web.Request) -> web.Response:
    """POST /retrieve?type=[&k=][&user=][&target=][&min_score=][&min_relevance=][&rank=], the query as the body."""
    return await _retrieve(request, None)


async def retrieve_contents(request: web.Request) -> web.Response:
    """POST /mv_retrieval/v0.1/retrieve_contents: the historical call, always k of each type."""
    return await _retrieve(request, "each")


async def _retrieve(request: web.Request, target: Target | None) -> web.Response:
    started = time.perf_counter()
    content_type = check_type(request.query.get("type"))
    search = parameters.search(request, target)
    async with _content(request, content_type) as data:
        found = await request.app[SERVICE].retrieve(data, content_type, search, request[REQUEST_ID])
    return answers.found(found.hits, search.target, started, truncated=found.truncated)


async def recommend(request: web.Request) -> web.Response:
    """POST /recommend?user=[&k=][&target=][&diversity=][&seed=], without a body."""
    started = time.perf_counter()
    user = check_id(request.query.get("user"), "user")
    search, diversity = parameters.recommendation(request), parameters.diversity(request)
    seed = parameters.seed(request)
    result = await request.app[SERVICE].recommend(user, search, diversity, seed, CONTENT_TYPES)
    return answers.recommended(result, search.target, started)


async def recommend_contents(request: web.Request) -> web.Response:
    """POST /mv_retrieval/v0.1/recommend_contents?user=&k=: the historical call, k of each type for each history."""
    started = time.perf_counter()
    user = check_id(request.query.get("user"), "user")
    search = parameters.recommendation(request, "each")
    service, diversity, seed = request.app[SERVICE], parameters.diversity(request), parameters.seed(request)
    results = {each: await service.recommend(user, search, diversity, seed, (each,)) for each in CONTENT_TYPES}
    return answers.recommended_by_history(results, started)


async def get_contents(request: web.Request) -> web.Response:
    """GET /contents[?user=][&type=][&limit=][&after=]: what is stored, a page at a time."""
    user, content_type = parameters.user(request), parameters.optional_type(request)
    limit, after = parameters.limit(request), request.query.get("after")
    return answers.page(await request.app[SERVICE].page(user, content_type, limit, after))


async def get_content(request: web.Request) -> web.Response:
    """GET /contents/{id}: what is stored, without its vector."""
    return web.json_response(answers.content(await request.app[SERVICE].get_content(_content_id(request))))


async def delete_content(request: web.Request) -> web.Response:
    """DELETE /contents/{id}: 204 when it is gone for good."""
    await request.app[SERVICE].delete_content(_content_id(request))
    return web.Response(status=204)


async def get_preview(request: web.Request) -> web.Response:
    """GET /contents/{id}/preview: a small WebP of an image, the first characters of a text."""
    content, data = await request.app[SERVICE].preview(_content_id(request))
    return answers.preview(request, content, data)


async def get_similar(request: web.Request) -> web.Response:
    """GET /contents/{id}/similar, with the parameters of /retrieve but `type`: like it, without asking the model."""
    started = time.perf_counter()
    search = parameters.search(request)
    return answers.found(await request.app[SERVICE].similar(_content_id(request), search), search.target, started)


async def delete_user(request: web.Request) -> web.Response:
    """DELETE /users/{user}/contents: how many were erased, when they are gone for good."""
    deleted = await request.app[SERVICE].delete_user(check_id(request.match_info["user"], "user"))
    return web.json_response({"deleted": deleted})


async def index(request: web.Request) -> web.Response:
    """GET /index: how the contents of each type are searched at the moment."""
    states = await request.app[SERVICE].index_states()
    return web.json_response({name: asdict(state) for name, state in states.items()})


async def health(request: web.Request) -> web.Response:
    """GET /health: the process lives, and how the things around it are."""
    service = request.app[SERVICE]
    contents, stored = None, None
    with contextlib.suppress(StorageUnavailable, TimeoutError):
        async with asyncio.timeout(_HEALTH_S):
            contents, stored = await service.counts(), await service.fingerprint()
    fingerprint = stored or service.served
    body = {
        "status": "ok",
        "version": __version__,
        "ready": service.ready and contents is not None,
        "storage": "unavailable" if contents is None else "available",
        "embedder": "available" if request.app[EMBEDDER].answers else "unavailable",
        "model": fingerprint,
        "weights": fingerprint.split(":")[1] if fingerprint else None,
        "contents": contents,
    }
    return web.json_response(body)


async def ready(request: web.Request) -> web.Response:
    """GET /ready: 200 when every call is served, 503 while the index is being built or the storage does not answer."""
    request.app[SERVICE].check_ready()
    await request.app[SERVICE].check_storage()
    return web.json_response({"status": "ready"})


def _content_id(request: web.Request) -> str:
    return check_id(request.match_info["id"])


def _content(request: web.Request, content_type: ContentType) -> Any:
    settings = request.app[SETTINGS]
    limit = settings.max_text_bytes if content_type == "text" else settings.max_image_bytes
    return request.app[BODIES].read(request, limit)
