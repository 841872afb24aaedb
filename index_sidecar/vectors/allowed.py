"""Which rows of a shelf a selection allows, kept while neither changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from ..archive.filters import Selection
from .rows import Allowed, Lists


@dataclass(eq=False)
class Among:
    """The allowed rows, and what an approximate index works out of them once: how many there are in each list."""

    allowed: Allowed
    count: int
    in_lists: Lists | None = field(default=None)


class AllowedRows:
    """The rows of each selection, of which the store lets go when it changes."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Selection, Among] = WeakKeyDictionary()

    def clear(self) -> None:
        """The rows have changed."""
        if self._kept:
            self._kept.clear()

    def of(self, selection: Selection, row_of: Mapping[str, int], rows: int) -> Among:
        """The allowed ones of so many rows, by their ids; ids without a row are passed over."""
        kept = self._kept.get(selection)
        if kept is None:
            allowed: Allowed = np.zeros(rows, np.bool_)
            ids = selection.ids or ()
            found = np.fromiter((row_of.get(each, -1) for each in ids), np.int64, len(ids))
            allowed[found[found >= 0]] = True
            kept = self._kept[selection] = Among(allowed, int(np.count_nonzero(allowed)))
        return kept
