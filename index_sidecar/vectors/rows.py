"""What the modules of the index call the same: numbers of rows, their scores and codes, and columns that grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Keys = npt.NDArray[np.int64]  # of the store, by row: 0 where it gave none
Lists = npt.NDArray[np.int64]
Prints = npt.NDArray[np.uint64]  # the first 8 bytes of each row's SHA-256, which tell its vector from all others
Allowed = npt.NDArray[np.bool_]  # by row: whether it may be found

MARGIN = 2e-6
"""By how much a score of Faiss may differ from the exact one, which is rounded to 1e-6: it adds up in float32, and in
another order for another kind of search."""
SLACK = 4  # more rows than asked for, so that seldom all of them score alike

_Column = TypeVar("_Column", bound=npt.NDArray[Any])


def with_room(column: _Column, rows: int) -> _Column:
    """The column itself, or a copy of at least twice its length, so that it has this many rows."""
    if rows <= len(column):
        return column
    grown = np.empty(max(rows, 2 * len(column)), column.dtype)
    grown[: len(column)] = column
    return grown  # type: ignore[return-value]


def prints_of(sha256s: Sequence[bytes]) -> Prints:
    """Of each SHA-256 what a row keeps of it."""
    whole = np.frombuffer(b"".join(sha256s), "<u8").reshape(-1, 4)
    return np.ascontiguousarray(whole[:, 0], np.uint64)
