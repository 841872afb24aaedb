"""Every call of the product: its path, what answers it, and the parameters it takes.

No proxy keeps every id whole within a path. So each call that names an id or a user in its path can be made with it as
a parameter, too: at the path without that segment.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ..access.roles import Role
from . import handlers
from .auth import require
from .parameters import (
    AFTER,
    ASKER,
    DIVERSITY,
    ERASED_USER,
    ID,
    K_RECOMMENDED,
    LIMIT,
    MIN_RELEVANCE,
    MIN_SCORE,
    NEAR,
    OF_TYPE,
    OF_USER,
    ONE_ID,
    OWNER,
    RANK,
    READER,
    SEED,
    TARGET,
    TYPE,
    K,
    Parameter,
)
from .query import Query, read_query

Answer = Callable[[web.Request, Query], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Call:
    """One call; `role` is what its caller must have, None for everybody.

    A `lenient` one passes over parameters that it does not know.
    """

    method: str
    path: str
    answer: Answer
    takes: tuple[Parameter[Any], ...] = ()
    role: Role | None = Role.READER
    lenient: bool = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """See that the caller may, read the parameters, and answer."""
        require(request, self.role)
        return await self.answer(request, read_query(request, self.path, self.takes, self.lenient))


_ADD = (ID, TYPE, OWNER, NEAR)
_RETRIEVE = (TYPE, K, ASKER, MIN_SCORE, MIN_RELEVANCE, RANK)
_SIMILAR = (ID, K, ASKER, TARGET, MIN_SCORE, MIN_RELEVANCE, RANK)
_RECOMMEND = (READER, K_RECOMMENDED, DIVERSITY, SEED)

CALLS = (
    Call("POST", "/add_content", handlers.add_content, _ADD, Role.WRITER),
    Call("POST", "/retrieve", handlers.retrieve, (*_RETRIEVE, TARGET)),
    Call("POST", "/recommend", handlers.recommend, (*_RECOMMEND, TARGET)),
    Call("GET", "/contents", handlers.get_contents, (OF_USER, OF_TYPE, LIMIT, AFTER, ONE_ID)),
    Call("GET", "/contents/{id}", handlers.get_content, (ID,)),
    Call("DELETE", "/contents", handlers.delete_content, (ID,), Role.WRITER),
    Call("DELETE", "/contents/{id}", handlers.delete_content, (ID,), Role.WRITER),
    Call("GET", "/contents/preview", handlers.get_preview_by_parameter, (ID,)),
    Call("GET", "/contents/{id}/preview", handlers.get_preview, (ID,)),
    Call("GET", "/contents/similar", handlers.get_similar_by_parameter, _SIMILAR),
    Call("GET", "/contents/{id}/similar", handlers.get_similar, _SIMILAR),
    Call("DELETE", "/users/contents", handlers.delete_user, (ERASED_USER,), Role.WRITER),
    Call("DELETE", "/users/{user}/contents", handlers.delete_user, (ERASED_USER,), Role.WRITER),
    Call("POST", "/mv_retrieval/v0.1/add_content", handlers.add_content, _ADD, Role.WRITER, lenient=True),
    Call("POST", "/mv_retrieval/v0.1/retrieve_contents", handlers.retrieve_contents, _RETRIEVE, lenient=True),
    Call("POST", "/mv_retrieval/v0.1/recommend_contents", handlers.recommend_contents, _RECOMMEND, lenient=True),
    Call("GET", "/index", handlers.index),
    Call("GET", "/health", handlers.health, role=None),
    Call("GET", "/livez", handlers.livez, role=None),
    Call("GET", "/ready", handlers.ready, role=None),
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
