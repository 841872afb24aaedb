"""The lines that answer many contents in one call."""

from __future__ import annotations

from msgspec import Struct

from .shapes import AddAnswer, Error


class AddedLine(Struct, frozen=True):
    """What became of one content of many; `part` counts from 1."""

    part: int
    content: AddAnswer


class FailedLine(Struct, frozen=True):
    """Why one content of many was not added; `id` as far as it is known."""

    part: int
    id: str | None
    error: Error


class Summary(Struct, frozen=True):
    """How many contents became what; `complete` is false where the form ended too early to know of all."""

    added: int
    replaced: int
    unchanged: int
    failed: int
    complete: bool


class SummaryLine(Struct, frozen=True):
    """The last line: where it is missing, the answer was cut off."""

    summary: Summary
