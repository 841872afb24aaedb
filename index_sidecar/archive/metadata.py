"""What its owner says of a content: a flat JSON object, and what of it can be asked for.

A value is a string, a number, true or false, or a list of strings. Whole numbers are exact within 64 bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from .errors import InvalidInput
from .strict_json import INT64, read_json

MAX_NAMES = 32
MAX_BYTES = 4096
BUILT_IN = ("type", "user", "created")
"""Names that filters know of every content; so no metadata may bear them."""

Number = int | float
Scalar = str | bool | int | float
Value = str | bool | int | float | list[str]
Metadata = Mapping[str, Value]
NumberKind = Literal["number", "date"]

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000  # in microseconds


class Facts(NamedTuple):
    """What filters compare: (name, term) of each value, and (name, kind, number) of each that has an order."""

    terms: list[tuple[str, str]]
    numbers: list[tuple[str, NumberKind, Number]]


def read_metadata(text: str | bytes) -> Metadata:
    """Metadata out of JSON. Raises InvalidInput."""
    return check_metadata(read_json(text, "metadata"))


def check_metadata(value: Any) -> Metadata:
    """The metadata that a JSON value is. Raises InvalidInput, which says where."""
    if not isinstance(value, dict):
        raise _wrong("$", "must be an object")
    if len(value) > MAX_NAMES:
        raise _wrong("$", f"has more than {MAX_NAMES} names")
    for name, each in value.items():
        if not NAME.fullmatch(name):
            raise _wrong("$", f"names are 1 to 64 characters of A-Z a-z 0-9 _ . -, not {name[:64]!a}")
        if name in BUILT_IN:
            raise _wrong(f"$.{name}", "is what the archive itself calls something of every content: take another name")
        if isinstance(each, list):
            if not all(isinstance(item, str) and not _SURROGATE.search(item) for item in each):
                raise _wrong(f"$.{name}", "a list holds strings only")
        elif not is_scalar(each):
            raise _wrong(f"$.{name}", "must be a string, a number of at most 64 bit, true, false or a list of strings")
    if len(write_metadata(value)) > MAX_BYTES:
        raise _wrong("$", f"is longer than {MAX_BYTES} bytes")
    return value


def merged(metadata: Metadata, patch: Any) -> Metadata:
    """`metadata` after a merge patch (RFC 7396): null takes a name away. Raises InvalidInput."""
    if not isinstance(patch, dict):
        raise _wrong("$", "a merge patch is an object")
    kept = {name: value for name, value in metadata.items() if name not in patch}
    return check_metadata(kept | {name: value for name, value in patch.items() if value is not None})


def write_metadata(metadata: Metadata) -> bytes:
    """The JSON of metadata in UTF-8: the same bytes for the same metadata."""
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def is_scalar(value: Any) -> bool:
    """Whether this is a string, a boolean or a number that is kept exactly."""
    if isinstance(value, str):
        return not _SURROGATE.search(value)
    return isinstance(value, bool | float) or (isinstance(value, int) and value in INT64)


def term_of(value: Scalar) -> str:
    """What two values share if, and only if, they are equal: 1 is 1.0, but neither `true` nor "1"."""
    if isinstance(value, str):
        return f"s{value}"
    if isinstance(value, bool):
        return "b1" if value else "b0"
    return f"n{int(value)}" if value == int(value) else f"n{value!r}"


def facts_of(metadata: Metadata) -> Facts:
    """Each element of a list is a value; strings that are dates have an order as well."""
    facts = Facts([], [])
    for name, value in metadata.items():
        if isinstance(value, list):
            facts.terms.extend((name, term_of(item)) for item in dict.fromkeys(value))
            continue
        facts.terms.append((name, term_of(value)))
        if isinstance(value, str):
            if (moment := instant(value)) is not None:
                facts.numbers.append((name, "date", moment[0]))
        elif not isinstance(value, bool):
            facts.numbers.append((name, "number", value))
    return facts


def instant(text: str) -> tuple[int, bool] | None:
    """(microseconds since 1970, whether it is a day alone) of a date as RFC 3339 has it; None for other text.

    Without a zone it is UTC; a day alone is its first instant.
    """
    found = _DATE.fullmatch(text)
    if not found:
        return None
    day, time, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time or '00:00'}{(zone or 'Z').upper()}")
    except ValueError:
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1), time is None


def _wrong(place: str, why: str) -> InvalidInput:
    return InvalidInput(f"metadata {place}: {why}", "invalid_metadata")
