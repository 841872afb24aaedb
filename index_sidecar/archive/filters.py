"""Filters: which contents are meant, by metadata and by the built-in `type`, `user`, `created`; a part of Qdrant's.

{"must": [...], "should": [...], "must_not": [...]}: all of the first, at least one of the second, none of the third.
A condition is such a filter again, or {"key": NAME, "match": {"value": V} or {"any": [V, ...]}}, or
{"key": NAME, "range": {"gt", "gte", "lt", "lte": number or date}}.

Every content either passes a filter or not, so that `must_not` is the complement: what lacks the name passes it. An
empty `must`, `should` or `must_not` asks for nothing, so everything passes; an empty `any` has no value to be equal to,
so nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .metadata import DAY, MAX_BYTES, NAME, Number, NumberKind, instant, is_scalar, term_of
from .strict_json import read_json

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 1024  # of all `any` together
MAX_FILTER_BYTES = 1 << 15

Operator = Literal["gt", "gte", "lt", "lte"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
_CLAUSES = ("must", "should", "must_not")


@dataclass(frozen=True, slots=True)
class Match:
    """One of the values under `key` is one of these; `terms` as metadata.term_of makes them."""

    key: str
    terms: tuple[str, ...]

    def texts(self) -> list[str]:
        """Those of the values that are strings."""
        return [term[1:] for term in self.terms if term.startswith("s")]


@dataclass(frozen=True, slots=True)
class Range:
    """The value under `key` is a number, or a date in microseconds since 1970, within all of the bounds."""

    key: str
    kind: NumberKind
    bounds: tuple[tuple[Operator, Number], ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """All of `must`, none of `must_not`, and one of `should` where there are any."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()


Condition = Match | Range | Filter


@dataclass(frozen=True, eq=False)
class Selection:
    """A filter, and the keys of what passes it, ascending, where the store finds that: None where the index does."""

    filter: Filter
    keys: npt.NDArray[np.int64] | None = None


def read_filter(text: str | bytes, place: str = "$") -> Filter:
    """A filter out of JSON that stands at `place`. Raises InvalidInput, which says where it is wrong."""
    if len(text) > MAX_FILTER_BYTES:
        raise _wrong(place, f"is longer than {MAX_FILTER_BYTES} bytes")
    return filter_of(read_json(text, "filter"), place)


def filter_of(value: Any, place: str = "$") -> Filter:
    """A filter out of a JSON value that stands at `place`. Raises InvalidInput, which says where it is wrong."""
    return _Reader().filter(value, place, 1)


class _Reader:
    """Reads one filter, and counts what it asks for."""

    def __init__(self) -> None:
        self._conditions = 0
        self._values = 0

    def filter(self, value: Any, place: str, depth: int) -> Filter:
        if not isinstance(value, dict):
            raise _wrong(place, "must be an object")
        if depth > MAX_DEPTH:
            raise _wrong(place, f"filters are nested at most {MAX_DEPTH} deep")
        _check_names(value, _CLAUSES, place)
        clauses: dict[str, tuple[Condition, ...]] = {}
        for clause, conditions in value.items():
            if not isinstance(conditions, list):
                raise _wrong(f"{place}.{clause}", "must be a list of conditions")
            clauses[clause] = tuple(
                self._condition(each, f"{place}.{clause}[{number}]", depth) for number, each in enumerate(conditions)
            )
        return Filter(**clauses)

    def _condition(self, value: Any, place: str, depth: int) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise _wrong(place, f"a filter has at most {MAX_CONDITIONS} conditions")
        if not isinstance(value, dict):
            raise _wrong(place, "must be an object")
        if "key" not in value:
            return self.filter(value, place, depth + 1)
        _check_names(value, ("key", "match", "range"), place)
        key = value["key"]
        if not isinstance(key, str) or not NAME.fullmatch(key):
            raise _wrong(f"{place}.key", "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
        if len(value) != 2:
            raise _wrong(place, "must have either match or range beside its key")
        if "match" in value:
            return self._match(key, value["match"], f"{place}.match")
        return _range(key, value["range"], f"{place}.range")

    def _match(self, key: str, value: Any, place: str) -> Match:
        if key == "created":
            raise _wrong(place, "created is compared by a range only")
        if not isinstance(value, dict) or len(value) != 1:
            raise _wrong(place, 'must be {"value": ...} or {"any": [...]}')
        _check_names(value, ("value", "any"), place)
        values = value.get("any", [value.get("value")])
        if not isinstance(values, list):
            raise _wrong(f"{place}.any", "must be a list of values")
        self._values += len(values)
        if self._values > MAX_VALUES:
            raise _wrong(place, f"a filter has at most {MAX_VALUES} values")
        for number, each in enumerate(values):
            if not is_scalar(each) or (isinstance(each, str) and len(each) > MAX_BYTES):
                where = f"{place}.any[{number}]" if "any" in value else f"{place}.value"
                raise _wrong(where, "must be a string, a number of at most 64 bit, true or false")
        return Match(key, tuple(sorted({term_of(each) for each in values})))


def _range(key: str, value: Any, place: str) -> Range:
    if key in ("type", "user"):
        raise _wrong(place, f"{key} has no order: it is compared by a match only")
    if not isinstance(value, dict) or not value:
        raise _wrong(place, f"must be an object with some of {', '.join(OPERATORS)}")
    _check_names(value, OPERATORS, place)
    kinds: set[NumberKind] = set()
    bounds: list[tuple[Operator, Number]] = []
    for name, limit in value.items():
        operator, where = cast(Operator, name), f"{place}.{name}"
        if isinstance(limit, bool) or not is_scalar(limit):
            raise _wrong(where, "must be a number of at most 64 bit, or a date")
        if not isinstance(limit, str):
            kinds.add("number")
            bounds.append((operator, limit))
            continue
        moment = instant(limit)
        if moment is None:
            raise _wrong(where, "must be a date like 2026-06-10 or 2026-06-10T12:00:00+02:00")
        kinds.add("date")
        bounds.append(_of_day(operator, moment[0]) if moment[1] else (operator, moment[0]))
    if len(kinds) > 1:
        raise _wrong(place, "has a number and a date: take one of them")
    return Range(key, kinds.pop(), tuple(bounds))


def _of_day(operator: Operator, start: int) -> tuple[Operator, Number]:
    """The bound that a day alone stands for: `lte` covers the day, and `gt` begins behind it."""
    if operator == "lte":
        return "lt", start + DAY
    return ("gte", start + DAY) if operator == "gt" else (operator, start)


def _check_names(value: dict[str, Any], known: Sequence[str], place: str) -> None:
    for name in value:
        if name not in known:
            raise _wrong(place, f"there is no {name[:64]!a} here, only {', '.join(known)}")


def _wrong(place: str, why: str) -> InvalidInput:
    return InvalidInput(f"filter {place}: {why}", "invalid_filter")
