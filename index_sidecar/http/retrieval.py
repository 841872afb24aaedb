"""The calls that search: what is similar, what is new. Parameters -> what the service is asked -> its answer."""

from __future__ import annotations

import time

from aiohttp import web

from ..archive.content import CONTENT_TYPES, Target
from ..archive.lanes import Lane
from ..archive.search import Search
from . import answers
from .auth import ACCESS, CALLER
from .handlers import BODIES, SERVICE, check_room, get_content_called
from .parameters import (
    ASKER,
    DIVERSITY,
    FIELDS,
    FILTER,
    FOLD,
    ID,
    K_RECOMMENDED,
    MIN_RELEVANCE,
    MIN_SCORE,
    OFFSET,
    ORDER,
    RANK,
    READER,
    SEED,
    TARGET,
    TYPE,
    K,
)
from .query import Query
from .search_body import read_search


async def retrieve(request: web.Request, query: Query) -> web.Response:
    """What is most similar to the body."""
    return await _retrieve(request, query, None)


async def retrieve_contents(request: web.Request, query: Query) -> web.Response:
    """The historical call: always k of each type."""
    return await _retrieve(request, query, "each")


async def _retrieve(request: web.Request, query: Query, target: Target | None) -> web.Response:
    started = time.perf_counter()
    check_room(request, Lane.SEARCH)
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


async def get_similar(request: web.Request, query: Query) -> web.Response:
    """What is most similar to a stored content, without asking the model."""
    started = time.perf_counter()
    search = _search(query, query[TARGET])
    return answers.similar(await request.app[SERVICE].similar(query[ID], search), search, started)


async def get_similar_by_parameter(request: web.Request, query: Query) -> web.Response:
    """What is most similar to a content; without an id, the content whose id is the last segment of this path."""
    return await (get_similar(request, query) if ID in query else get_content_called("similar", request))


def _reader(request: web.Request, query: Query) -> str:
    """The user recommendations are for, whom a bound key need not name."""
    caller = request.get(CALLER)
    return query.get(READER) or (caller.user if caller else None) or query[READER]


def _search(query: Query, target: Target) -> Search:
    return Search(
        k=query[K],
        target=target,
        without_user=query.get(ASKER),
        min_score=query.get(MIN_SCORE),
        min_relevance=query.get(MIN_RELEVANCE),
        rank=query[RANK],
        offset=query[OFFSET],
        fold=query[FOLD] == "true",
        order=query[ORDER],
        filter=query.get(FILTER),
        with_metadata=FIELDS in query,
    )
