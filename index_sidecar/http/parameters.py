"""The query string of a request -> values that are in order, or InvalidInput that says what would be."""

from __future__ import annotations

import re

from aiohttp import web

from ..archive.content import RANKS, ContentType, Rank, Target, check_id, check_k, check_target, check_type
from ..archive.errors import InvalidInput
from ..archive.search import Search

MOST_RECOMMENDED = 100
MOST_A_PAGE = 1000
_NUMBER = re.compile(r"-?(\d{1,3}(\.\d{0,17})?|\.\d{1,17})", re.ASCII)
_SEED = re.compile(r"\d{1,9}", re.ASCII)


def user(request: web.Request) -> str | None:
    """The user, where one is given."""
    return check_id(request.query["user"], "user") if "user" in request.query else None


def optional_type(request: web.Request) -> ContentType | None:
    """The type, where one is given."""
    return check_type(request.query["type"]) if "type" in request.query else None


def search(request: web.Request, target: Target | None = None) -> Search:
    """What a search looks for, through `target` where the call leaves no choice."""
    return Search(
        check_k(request.query.get("k")),
        target or check_target(request.query.get("target")),
        user(request),
        number(request, "min_score", -1, 1),
        number(request, "min_relevance", 0, 1),
        _rank(request.query.get("rank", "score")),
    )


def number(request: web.Request, name: str, low: float, high: float) -> float | None:
    """A decimal number, where one is given."""
    value = request.query.get(name)
    if value is None:
        return None
    if not (_NUMBER.fullmatch(value) and low <= float(value) <= high):
        raise InvalidInput(f"{name} must be a number from {low} to {high}", f"invalid_{name}")
    return float(value)


def recommendation(request: web.Request, target: Target | None = None) -> Search:
    """What a recommend looks for, at most 100 contents."""
    wanted = search(request, target)
    if wanted.k > MOST_RECOMMENDED:
        raise InvalidInput(f"k must be a whole number from 1 to {MOST_RECOMMENDED}", "invalid_k")
    return wanted


def diversity(request: web.Request) -> float:
    """How much novelty counts against relevance, 0.3 when not said."""
    value = number(request, "diversity", 0, 1)
    return 0.3 if value is None else value


def seed(request: web.Request) -> int:
    """The random seed, 0 when not said."""
    value = request.query.get("seed", "0")
    if not _SEED.fullmatch(value):
        raise InvalidInput("seed must be a whole number from 0 to 999999999", "invalid_seed")
    return int(value)


def limit(request: web.Request) -> int:
    """How many contents a page has, 100 when not said."""
    value = request.query.get("limit", "100")
    if not (re.fullmatch(r"\d{1,4}", value, re.ASCII) and 1 <= int(value) <= MOST_A_PAGE):
        raise InvalidInput(f"limit must be a whole number from 1 to {MOST_A_PAGE}", "invalid_limit")
    return int(value)


def _rank(value: str) -> Rank:
    for rank in RANKS:
        if value == rank:
            return rank
    raise InvalidInput(f"rank must be one of {', '.join(RANKS)}", "invalid_rank")
