"""What a filter means, said once more and the plainest way: by its JSON, one content after the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from index_sidecar.archive.content import Content

Json = Any
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, limit: value > limit,
    "gte": lambda value, limit: value >= limit,
    "lt": lambda value, limit: value < limit,
    "lte": lambda value, limit: value <= limit,
}


def passes(content: Content, asked: Json) -> bool:
    """Whether a content passes a filter as a caller writes it."""
    if "key" in asked:
        return _meets(content, asked)
    should = asked.get("should", [])
    return (
        all(passes(content, each) for each in asked.get("must", []))
        and not any(passes(content, each) for each in asked.get("must_not", []))
        and (not should or any(passes(content, each) for each in should))
    )


def _meets(content: Content, asked: Json) -> bool:
    built_in = {"type": content.type, "user": content.user, "created": content.created}
    value = built_in[asked["key"]] if asked["key"] in built_in else content.metadata.get(asked["key"])
    if asked["key"] == "created" and isinstance(next(iter(asked["range"].values())), str):
        value = datetime.fromtimestamp(content.created, UTC).isoformat()
    values = value if isinstance(value, list) else [] if value is None else [value]
    if "match" in asked:
        wanted = asked["match"].get("any", [asked["match"].get("value")])
        return any(_equal(value, each) for value in values for each in wanted)
    return not isinstance(value, list) and any(
        all(_within(each, name, limit) for name, limit in asked["range"].items()) for each in values
    )


def _equal(value: Json, other: Json) -> bool:
    """As JSON has it: true is not 1, but 1.0 is."""
    kinds = [str if isinstance(each, str) else bool if isinstance(each, bool) else float for each in (value, other)]
    return kinds[0] is kinds[1] and value == other


def _within(value: Json, operator: str, limit: Json) -> bool:
    if isinstance(limit, str):
        moment = _date(value)
        bound = _date(limit)
        if moment is None or bound is None:
            return False
        if len(limit) == 10 and operator in ("gt", "lte"):
            last = bound + timedelta(days=1) - timedelta(microseconds=1)
            return _OPERATORS[operator](moment, last)
        return _OPERATORS[operator](moment, bound)
    if isinstance(value, str | bool):
        return False
    return _OPERATORS[operator](Fraction(value), Fraction(limit))


def _date(text: Json) -> datetime | None:
    if not isinstance(text, str) or len(text) < 10 or text[4] != "-":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
