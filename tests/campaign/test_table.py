"""The page tells what the campaign's last run found: nothing lost, nothing wrong, nothing leaked."""

from __future__ import annotations

import json

import pytest

from .__main__ import RESULTS
from .cases import PARTS
from .table import PAGE, table

_RESULTS = json.loads(RESULTS.read_text())
_ROWS = [row for part in _RESULTS.values() for case in part.values() for row in case["rows"]]


def test_the_page_tells_what_was_found() -> None:
    assert table(_RESULTS) in PAGE.read_text()


def test_every_case_was_run() -> None:
    """Nothing that is tried now is missing, and nothing stands there that is tried no more."""
    assert {part: sorted(cases) for part, cases in _RESULTS.items()} == {
        part: sorted(each.cases) for part, each in PARTS.items()
    }


@pytest.mark.parametrize("row", _ROWS, ids=[row["fault"] for row in _ROWS])
def test_zero_is_zero(row: dict[str, object]) -> None:
    assert row["cases"]
    assert (row["lost"], row["wrong"], row["leaked"]) == (0, 0, 0), row
