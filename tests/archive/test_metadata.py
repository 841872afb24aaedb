"""What metadata may be, and what a merge patch makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from index_sidecar.archive.errors import InvalidInput
from index_sidecar.archive.metadata import MAX_BYTES, Metadata, instant, merged, read_metadata, term_of, write_metadata

BIG = 215250709085334181


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"title": "Katze 漢", "n": -1.5, "yes": true, "tags": ["a", "b"], "none": []}',
        f'{{"id": {BIG}, "least": {-(1 << 63)}, "most": {(1 << 63) - 1}, "far": 1e300}}',
        json.dumps({f"name.{i}_-": i for i in range(32)}),
        json.dumps({"a": "x" * (MAX_BYTES - 8)}),
    ],
)
def test_metadata_comes_back_as_it_was_given(text: str) -> None:
    metadata = read_metadata(text)
    assert metadata == json.loads(text)
    assert read_metadata(write_metadata(metadata)) == metadata


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must be JSON"),
        ("[]", r"\$: must be an object"),
        ('{"a": NaN}', "NaN, which is no JSON"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e999}', "no double"),
        (f'{{"a": {1 << 63}}}', "beyond 64 bit"),
        ('{"a": 1' + "0" * 3000 + "}", "beyond 64 bit"),
        ('{"a": 1, "a": 2}', "one name twice"),
        ('{"a": null}', r"\$\.a: must be a string"),
        ('{"a": {"b": 1}}', r"\$\.a: must be a string"),
        ('{"a": [1]}', r"\$\.a: a list holds strings only"),
        ('{"a": "\\ud800"}', r"\$\.a"),
        ('{"a": ["\\ud800"]}', r"\$\.a"),
        ('{"ä": 1}', "names are"),
        ('{"": 1}', "names are"),
        ('{"' + "a" * 65 + '": 1}', "names are"),
        ('{"type": "x"}', r"\$\.type: is what the archive itself"),
        (json.dumps({f"n{i}": i for i in range(33)}), "more than 32 names"),
        (json.dumps({"a": "x" * (MAX_BYTES - 7)}), "longer than 4096 bytes"),
        ("[" * 4000, "nested too deep"),
    ],
)
def test_other_metadata_is_refused_and_told_where(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as raised:
        read_metadata(text)
    assert raised.value.code == "invalid_metadata"


def test_a_merge_patch_changes_what_it_names() -> None:
    before: Metadata = {"title": "old", "tags": ["a"], "n": 1}
    assert merged(before, {"title": "new", "tags": None, "gone": None, "more": True}) == {
        "title": "new",
        "n": 1,
        "more": True,
    }
    assert merged(before, {}) == before
    wrong: list[Any] = [None, [], "x", {"n": {"deep": None}}, {"n": [None]}]
    for patch in wrong:
        with pytest.raises(InvalidInput):
            merged(before, patch)


def test_numbers_are_equal_by_value_and_to_nothing_else() -> None:
    same = [1, 1.0], [0, -0.0, 0.0], [1 << 60, float(1 << 60)], [BIG], [True], [False], ["1"], ["n1"], ["b1"], [0.1]
    terms = [{term_of(each) for each in values} for values in same]
    assert all(len(each) == 1 for each in terms)
    assert len(set.union(*terms)) == len(same)


def test_dates_are_instants_and_without_a_zone_utc() -> None:
    second = 1_000_000
    assert instant("1970-01-01") == (0, True)
    assert instant("1970-01-01T00:00") == (0, False)
    assert instant("1970-01-01T09:00:01+09:00") == instant("1970-01-01 00:00:01Z") == (second, False)
    assert instant("1969-12-31T23:59:59.999999") == (-1, False)
    for text in ("", "1970", "19700101", "1970-13-01", "1970-W01-1", "1970-01-01T25:00", "0000-01-01", "1970-01-01Z"):
        assert instant(text) is None, text
