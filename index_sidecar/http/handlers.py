"""A call's parameters -> what the service is asked -> its answer. routes.py has the paths, answers.py the JSON."""

from __future__ import annotations

import time

from aiohttp import web

from ..archive.errors import InvalidInput
from ..archive.lanes import Lane
from ..archive.ports import Embedder
from ..archive.search import Listed
from ..archive.service import ContentService
from . import answers
from .auth import ACCESS, acting_user, only_user_of
from .body import Bodies
from .parameters import (
    AFTER,
    ERASED_USER,
    FILTER,
    ID,
    LIMIT,
    LISTED_FIRST,
    METADATA,
    NEAR,
    OF_TYPE,
    OF_USER,
    ONE_ID,
    OWNER,
    TYPE,
)
from .query import Query

SERVICE = web.AppKey("service", ContentService)
EMBEDDER = web.AppKey("embedder", Embedder)
BODIES = web.AppKey("bodies", Bodies)
_LARGE_BYTES = 64 * 1024


async def add_content(request: web.Request, query: Query) -> web.Response:
    """Store the body under an id; 201 when it is new there."""
    started = time.perf_counter()
    only_user, only_new = only_user_of(request), wants_new(request)
    check_room(request, Lane.ADD)
    async with request.app[BODIES].read(request, query) as original:
        user, near = acting_user(request, query.get(OWNER)), query.get(NEAR)
        request.app[ACCESS].count_model(request, query[TYPE])
        service = request.app[SERVICE]
        added = await service.add_content(
            original, query[ID], query[TYPE], user, near, only_user, only_new, query.get(METADATA)
        )
    return answers.added(added, near is not None, started)


async def get_contents(request: web.Request, query: Query) -> web.Response:
    """What is stored, a page at a time; with an id, that content alone."""
    if ONE_ID in query:
        if len(query) > 1:
            raise InvalidInput("id names one content: no other parameter goes with it", "unknown_parameter")
        return await get_content(request, query)
    page = await request.app[SERVICE].page(
        Listed(query.get(OF_USER), query.get(OF_TYPE), query.get(FILTER), query[LISTED_FIRST] == "newest"),
        query[LIMIT],
        query.get(AFTER),
    )
    return answers.page(page)


async def get_content(request: web.Request, query: Query) -> web.Response:
    """What is stored under an id, without its vector."""
    service = request.app[SERVICE]
    content = await service.get_content(query[ID])
    return answers.json(answers.content(content.entry, await service.originals.has(content.id)))


async def delete_content(request: web.Request, query: Query) -> web.Response:
    """Erase a content; 204 when it is gone for good, 200 while its bytes are in no answer, but still in a file."""
    erased = await request.app[SERVICE].delete_content(query[ID], only_user_of(request))
    request.app[ACCESS].audit(request, "content erased", 1, query[ID])
    return answers.erased(erased)


async def get_preview(request: web.Request, query: Query) -> web.Response:
    """A small WebP of an image, the first characters of a text."""
    content, data = await request.app[SERVICE].preview(query[ID])
    return answers.preview(request, content, data)


async def get_preview_by_parameter(request: web.Request, query: Query) -> web.Response:
    """The preview of a content; without an id, the content whose id is the last segment of this path."""
    return await (get_preview(request, query) if ID in query else get_content_called("preview", request))


async def delete_user(request: web.Request, query: Query) -> web.Response:
    """Erase all that a user added, and say how many contents that were."""
    user = acting_user(request, query.get(ERASED_USER)) or query[ERASED_USER]
    erased = await request.app[SERVICE].delete_user(user)
    request.app[ACCESS].audit(request, "contents of a user erased", erased.count, user)
    return answers.user_erased(erased)


async def get_content_called(content_id: str, request: web.Request) -> web.Response:
    """What is stored under an id that a path spells without meaning it."""
    query = Query([ID])
    query.add(ID.name, content_id.encode())
    return await get_content(request, query)


def check_room(request: web.Request, lane: Lane) -> None:
    """Refuse, before the body is read, what would be refused after it; a small one may need no room at the model."""
    service = request.app[SERVICE]
    service.check_ready()
    if (request.content_length or 0) > _LARGE_BYTES and (refusal := service.model.refusal(lane)) is not None:
        raise refusal


def wants_new(request: web.Request) -> bool:
    """Whether an add shall fail where the id is taken: `If-None-Match: *` (RFC 9110). Raises InvalidInput."""
    given = request.headers.getall("If-None-Match", ())
    if given and [each.strip() for each in given] != ["*"]:
        raise InvalidInput("an add takes If-None-Match only as `*`: the id shall be free", "invalid_if_none_match")
    return bool(given)
