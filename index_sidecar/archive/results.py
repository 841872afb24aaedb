"""What the service gives: what became of a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .content import Content, Hit


@dataclass(frozen=True, slots=True)
class Added:
    """What became of an `add_content`; `duplicate_of` names other ids with the same bytes, oldest first.

    `near_duplicates` are contents of other bytes but the same type and nearly the same vector, nearest first. What was
    replaced is in no answer; whether it is in no file either, `overwritten` tells.
    """

    status: Literal["added", "unchanged", "replaced"]
    content: Content
    duplicate_of: list[str]
    near_duplicates: list[Hit]
    overwritten: bool


@dataclass(frozen=True, slots=True)
class Erased:
    """How many contents are in no answer any more, and whether they are in no file either."""

    count: int
    overwritten: bool


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The answers, best first; `truncated` when the query text was cut to the model's 77 tokens."""

    hits: list[Hit]
    truncated: bool
