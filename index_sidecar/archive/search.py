"""What a caller looks for."""

from __future__ import annotations

from dataclasses import dataclass

from .content import CONTENT_TYPES, ContentType, Rank, Target


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for: the k best, of which types, without whose, from which score or relevance on.

    Relevance is unknown in a small archive: then `min_relevance` leaves nothing out, and `rank` is by score.
    """

    k: int = 10
    target: Target = "any"
    without_user: str | None = None
    min_score: float | None = None
    min_relevance: float | None = None
    rank: Rank = "score"

    @property
    def types(self) -> tuple[ContentType, ...]:
        """The types that are looked through."""
        return (self.target,) if self.target in ("text", "image") else CONTENT_TYPES
