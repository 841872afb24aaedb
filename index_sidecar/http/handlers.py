"""A call's parameters -> what the service is asked -> its answer. routes.py has the paths, answers.py the JSON."""

from __future__ import annotations

import time

from aiohttp import web

from ..archive.content import CONTENT_TYPES, Target
from ..archive.errors import InvalidInput
from ..archive.lanes import Lane
from ..archive.ports import Embedder
from ..archive.search import Listed, Search
from ..archive.service import ContentService
from . import answers
from .auth import ACCESS, CALLER, acting_user, only_user_of
from .body import Bodies
from .parameters import (
    AFTER,
    ASKER,
    DIVERSITY,
    ERASED_USER,
    FIELDS,
    FILTER,
    FOLD,
    ID,
    K_RECOMMENDED,
    LIMIT,
    LISTED_FIRST,
    METADATA,
    MIN_RELEVANCE,
    MIN_SCORE,
    NEAR,
    OF_TYPE,
    OF_USER,
    OFFSET,
    ONE_ID,
    ORDER,
    OWNER,
    RANK,
    READER,
    SEED,
    TARGET,
    TYPE,
    K,
)
from .query import Query
from .search_body import read_search

SERVICE = web.AppKey("service", ContentService)
EMBEDDER = web.AppKey("embedder", Embedder)
BODIES = web.AppKey("bodies", Bodies)
_LARGE_BYTES = 64 * 1024


async def add_content(request: web.Request, query: Query) -> web.Response:
    """Store the body under an id; 201 when it is new there."""
    started = time.perf_counter()
    only_user, only_new = only_user_of(request), wants_new(request)
    _check_room(request, Lane.ADD)
    async with request.app[BODIES].read(request, query) as original:
        user, near = acting_user(request, query.get(OWNER)), query.get(NEAR)
        request.app[ACCESS].count_model(request, query[TYPE])
        service = request.app[SERVICE]
        added = await service.add_content(
            original, query[ID], query[TYPE], user, near, only_user, only_new, query.get(METADATA)
        )
    return answers.added(added, near is not None, started)


async def retrieve(request: web.Request, query: Query) -> web.Response:
    """What is most similar to the body."""
    return await _retrieve(request, query, None)


async def retrieve_contents(request: web.Request, query: Query) -> web.Response:
    """The historical call: always k of each type."""
    return await _retrieve(request, query, "each")


async def _retrieve(request: web.Request, query: Query, target: Target | None) -> web.Response:
    started = time.perf_counter()
    _check_room(request, Lane.SEARCH)
    async with request.app[BODIES].read(request, query) as original:
        search = _search(query, query[TARGET] if target is None else target)
        request.app[ACCESS].count_model(request, query[TYPE])
        found = await request.app[SERVICE].retrieve(original, query[TYPE], search)
    return answers.retrieved(found, search, started)


async def search(request: web.Request, query: Query) -> web.Response:
    """What is most similar to several parts taken together: texts, pictures and stored contents, each with a weight."""
    started = time.perf_counter()
    request.app[SERVICE].check_ready()
    async with read_search(request, request.app[BODIES]) as question:
        asked = [part.type for part in question.parts if part.type is not None]
        request.app[ACCESS].count_model(request, *asked)
        found = await request.app[SERVICE].search(question.parts, question.search)
    return answers.retrieved(found, question.search, started)


async def recommend(request: web.Request, query: Query) -> web.Response:
    """What is new to a user and follows from what the user added before. No body."""
    started = time.perf_counter()
    user, with_metadata = _reader(request, query), FIELDS in query
    search = Search(query[K_RECOMMENDED], query[TARGET], filter=query.get(FILTER), with_metadata=with_metadata)
    result = await request.app[SERVICE].recommend(user, search, query[DIVERSITY], query[SEED], CONTENT_TYPES)
    return answers.recommended(result, search, started)


async def recommend_contents(request: web.Request, query: Query) -> web.Response:
    """The historical call: k of each type for each history."""
    started = time.perf_counter()
    user, search = _reader(request, query), Search(query[K_RECOMMENDED], "each")
    service, diversity, seed = request.app[SERVICE], query[DIVERSITY], query[SEED]
    results = {each: await service.recommend(user, search, diversity, seed, (each,)) for each in CONTENT_TYPES}
    return answers.recommended_by_history(results, started)


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
    return answers.json(answers.content((await request.app[SERVICE].get_content(query[ID])).entry))


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
    return await (get_preview(request, query) if ID in query else _get_content_called("preview", request))


async def get_similar(request: web.Request, query: Query) -> web.Response:
    """What is most similar to a stored content, without asking the model."""
    started = time.perf_counter()
    search = _search(query, query[TARGET])
    return answers.similar(await request.app[SERVICE].similar(query[ID], search), search, started)


async def get_similar_by_parameter(request: web.Request, query: Query) -> web.Response:
    """What is most similar to a content; without an id, the content whose id is the last segment of this path."""
    return await (get_similar(request, query) if ID in query else _get_content_called("similar", request))


async def delete_user(request: web.Request, query: Query) -> web.Response:
    """Erase all that a user added, and say how many contents that were."""
    user = acting_user(request, query.get(ERASED_USER)) or query[ERASED_USER]
    erased = await request.app[SERVICE].delete_user(user)
    request.app[ACCESS].audit(request, "contents of a user erased", erased.count, user)
    return answers.user_erased(erased)


def _reader(request: web.Request, query: Query) -> str:
    """The user recommendations are for, whom a bound key need not name."""
    caller = request.get(CALLER)
    return query.get(READER) or (caller.user if caller else None) or query[READER]


async def _get_content_called(content_id: str, request: web.Request) -> web.Response:
    query = Query([ID])
    query.add(ID.name, content_id.encode())
    return await get_content(request, query)


def _check_room(request: web.Request, lane: Lane) -> None:
    """Refuse, before the body is read, what would be refused after it; a small one may need no room at the model."""
    service = request.app[SERVICE]
    service.check_ready()
    if (request.content_length or 0) > _LARGE_BYTES and (refusal := service.model.refusal(lane)) is not None:
        raise refusal


def _search(query: Query, target: Target) -> Search:
    return Search(
        query[K],
        target,
        query.get(ASKER),
        query.get(MIN_SCORE),
        query.get(MIN_RELEVANCE),
        query[RANK],
        query[OFFSET],
        query[FOLD] == "true",
        query[ORDER],
        filter=query.get(FILTER),
        with_metadata=FIELDS in query,
    )


def wants_new(request: web.Request) -> bool:
    """Whether an add shall fail where the id is taken: `If-None-Match: *` (RFC 9110). Raises InvalidInput."""
    given = request.headers.getall("If-None-Match", ())
    if given and [each.strip() for each in given] != ["*"]:
        raise InvalidInput("an add takes If-None-Match only as `*`: the id shall be free", "invalid_if_none_match")
    return bool(given)
