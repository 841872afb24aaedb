"""What a caller looks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .content import CONTENT_TYPES, ContentType, Rank, Target
from .errors import InvalidInput
from .filters import Filter

DEPTH = 10_000
"""Hits of a type, best first, behind which nobody looks: to fetch and fold more would cost others too much."""

Order = Literal["best", "newest"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for: the k best behind the first `offset`, of which types, without whose, from which score on,
    and only what passes `filter`.

    Relevance is unknown in a small archive: then `min_relevance` leaves nothing out, and `rank` is by score. With
    `fold`, copies of a better hit go under it, and `k` and `offset` count what is left. `newest` puts what passes
    `min_score` and `min_relevance` in the order of its age. Raises InvalidInput for what does not go together.
    """

    k: int = 10
    target: Target = "any"
    without_user: str | None = None
    min_score: float | None = None
    min_relevance: float | None = None
    rank: Rank = "score"
    offset: int = 0
    fold: bool = False
    order: Order = "best"
    filter: Filter | None = None
    with_metadata: bool = False

    def __post_init__(self) -> None:
        if self.end > DEPTH:
            raise _wrong("offset", f"and k may reach {DEPTH:,} hits deep together, not {self.end:,}")
        if self.order == "newest" and self.min_score is None and self.min_relevance is None:
            raise _wrong("order", "may be newest only among what passes min_relevance or min_score: give one of them")

    @property
    def end(self) -> int:
        """How many hits there are up to the last one asked for."""
        return self.offset + self.k

    @property
    def types(self) -> tuple[ContentType, ...]:
        """The types that are looked through."""
        return (self.target,) if self.target in ("text", "image") else CONTENT_TYPES


@dataclass(frozen=True, slots=True)
class Listed:
    """Which contents to list: of one user, of one type, of what passes a filter, where given; and the newest first."""

    user: str | None = None
    type: ContentType | None = None
    filter: Filter | None = None
    newest: bool = False


def _wrong(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"{name} {what}", f"invalid_{name}")
