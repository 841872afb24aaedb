"""How filters are read, and how they are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from index_sidecar.archive.errors import InvalidInput
from index_sidecar.archive.filters import Filter, Match, Range, read_filter
from index_sidecar.archive.metadata import DAY, instant


def _deep(levels: int) -> Any:
    return {"must": [_deep(levels - 1)]} if levels > 1 else {}


A = {"key": "a", "match": {"value": 1}}


def test_a_filter_is_read() -> None:
    text = json.dumps(
        {
            "must": [A, {"key": "type", "match": {"any": ["text", "image"]}}],
            "should": [{"must_not": [{"key": "d", "range": {"gte": 1, "lt": 2.5}}]}],
            "must_not": [],
        }
    )
    assert read_filter(text) == Filter(
        must=(Match("a", ("n1",)), Match("type", ("simage", "stext"))),
        should=(Filter(must_not=(Range("d", "number", (("gte", 1), ("lt", 2.5))),)),),
    )


def test_a_day_alone_is_covered_as_an_upper_bound_and_left_behind_by_gt() -> None:
    found = instant("2026-06-10")
    assert found is not None
    start = found[0]
    for name, expected in (
        ("lte", ("lt", start + DAY)),
        ("gt", ("gte", start + DAY)),
        ("lt", ("lt", start)),
        ("gte", ("gte", start)),
    ):
        (condition,) = read_filter(json.dumps({"must": [{"key": "d", "range": {name: "2026-06-10"}}]})).must
        assert condition == Range("d", "date", (expected,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], "$: must be an object"),
        ({"must": A}, "$.must: must be a list"),
        ({"any_of": []}, "$: there is no 'any_of' here"),
        ({"must": [1]}, "$.must[0]: must be an object"),
        ({"must": [A, {"key": "a"}]}, "$.must[1]: must have either match or range"),
        ({"must": [{**A, "range": {"gt": 1}}]}, "$.must[0]: must have either"),
        ({"must": [{**A, "more": 1}]}, "$.must[0]: there is no 'more'"),
        ({"must": [{"key": "ä", "match": {"value": 1}}]}, "$.must[0].key"),
        ({"must": [{"key": 5, "match": {"value": 1}}]}, "$.must[0].key"),
        ({"must": [{"key": "a", "match": 1}]}, "$.must[0].match: must be"),
        ({"must": [{"key": "a", "match": {"value": None}}]}, "$.must[0].match.value"),
        ({"must": [{"key": "a", "match": {"any": "x"}}]}, "$.must[0].match.any: must be a list"),
        ({"must": [{"key": "a", "match": {"any": ["x", []]}}]}, "$.must[0].match.any[1]"),
        ({"must": [{"key": "created", "match": {"value": 1}}]}, "$.must[0].match: created"),
        ({"must": [{"key": "user", "range": {"gt": 1}}]}, "$.must[0].range: user has no order"),
        ({"must": [{"key": "a", "range": {}}]}, "$.must[0].range"),
        ({"must": [{"key": "a", "range": {"from": 1}}]}, "$.must[0].range: there is no 'from'"),
        ({"must": [{"key": "a", "range": {"gt": True}}]}, "$.must[0].range.gt"),
        ({"must": [{"key": "a", "range": {"gt": "soon"}}]}, "$.must[0].range.gt: must be a date"),
        ({"must": [{"key": "a", "range": {"gt": 1, "lt": "2026-01-01"}}]}, "$.must[0].range: has a number and a date"),
        ({"should": [{"must": [{"must_not": [A, 7]}]}]}, "$.should[0].must[0].must_not[1]: must be an object"),
        ({"must": [A] * 65}, "$.must[64]: a filter has at most 64"),
        ({"must": [{"key": "a", "match": {"any": list(range(1025))}}]}, "$.must[0].match: a filter has at most 1024"),
        (_deep(9), "$.must[0].must[0].must[0].must[0].must[0].must[0].must[0].must[0]: filters are nested"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_filter(json.dumps(value))
    assert raised.value.code == "invalid_filter"
    assert str(raised.value).startswith(f"filter {place}")


@pytest.mark.parametrize(
    "text", ["", "{", '{"must": [{"key": "a", "match": {"value": NaN}}]}', "[" * 20_000, " " * 40_000]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="filter"):
        read_filter(text)


def test_the_deepest_and_the_widest_filters_are_taken() -> None:
    read_filter(json.dumps(_deep(8)))
    read_filter(json.dumps({"must": [A] * 64}))
