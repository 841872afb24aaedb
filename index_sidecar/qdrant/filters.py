"""Filters and metadata as Qdrant keeps and compares them.

A content's names are its owner's choice, and an index for each would be a decision of the whole cluster: so all values
lie in two fields. `terms` has "NAME=TERM" of each; `numbers` has each number and date in two halves, since Qdrant
compares by doubles, which hold whole numbers up to 2^53 only.
"""

from __future__ import annotations

import math
from typing import Any

from ..archive.filters import Condition, Match, Operator, Range
from ..archive.metadata import Metadata, Number, facts_of, read_metadata, write_metadata

INDEXES: dict[str, Any] = {"terms": "keyword", "numbers[].name": "keyword", "numbers[].high": "float"}
_HALF = 1 << 32
_MICROSECONDS = 1_000_000
_NONE = {"has_id": list[str]()}
_STRICT: dict[Operator, Operator] = {"gt": "gt", "gte": "gt", "lt": "lt", "lte": "lt"}

Json = dict[str, Any]


def payload_of(metadata: Metadata) -> Json:
    """The fields of a point that hold metadata; its JSON as a text, so that every number stays as it is."""
    facts = facts_of(metadata)
    numbers = [
        {"name": f"{name}={kind}", **dict(zip(("high", "low"), _halves(number), strict=True))}
        for name, kind, number in facts.numbers
    ]
    terms = [f"{name}={term}" for name, term in facts.terms]
    return {"metadata": write_metadata(metadata).decode(), "terms": terms, "numbers": numbers}


def metadata_in(payload: Json) -> Metadata:
    """What `payload_of` has put into a point."""
    return read_metadata(payload.get("metadata", "{}"))


def condition(chosen: Condition) -> Json:
    """A condition as Qdrant has it, that can stand in any clause of its filters."""
    if isinstance(chosen, Match):
        return _match(chosen)
    if isinstance(chosen, Range):
        return _range(chosen)
    clauses = {"must": chosen.must, "should": chosen.should, "must_not": chosen.must_not}
    asked = {clause: [condition(each) for each in conditions] for clause, conditions in clauses.items() if conditions}
    return asked or {"must_not": [_NONE]}


def _match(match: Match) -> Json:
    if match.key in ("type", "user"):
        key, values = match.key, match.texts()
    else:
        key, values = "terms", [f"{match.key}={term}" for term in match.terms]
    return {"key": key, "match": {"any": values}} if values else _NONE


def _range(bounds: Range) -> Json:
    if bounds.key == "created":
        limits = [(each, limit / _MICROSECONDS if bounds.kind == "date" else limit) for each, limit in bounds.bounds]
        return {"must": [{"key": "created", "range": {each: limit}} for each, limit in limits]}
    named = {"key": "name", "match": {"value": f"{bounds.key}={bounds.kind}"}}
    within = [_bound(each, limit) for each, limit in bounds.bounds]
    return {"nested": {"key": "numbers", "filter": {"must": [named, *within]}}}


def _bound(operator: Operator, limit: Number) -> Json:
    """The higher half decides; where it is the same, the lower one."""
    high, low = _halves(limit)
    same = {"key": "high", "range": {"gte": high, "lte": high}}
    beyond = {"key": "high", "range": {_STRICT[operator]: high}}
    return {"should": [beyond, {"must": [same, {"key": "low", "range": {operator: low}}]}]}


def _halves(number: Number) -> tuple[float, float]:
    """(high, low) with number = high * 2^32 + low, both exact and of the number's sign: in its order, high first."""
    if isinstance(number, int):
        high, low = divmod(abs(number), _HALF)
        return (float(high), float(low)) if number >= 0 else (-float(high) + 0.0, -float(low) + 0.0)
    whole = float(math.trunc(number / _HALF))
    return whole + 0.0, number - whole * _HALF + 0.0
