"""Which rows of a shelf a selection allows, kept while neither changes; and what looking for them costs by list.

Costs are counted in 8-bit codes compared one after the other. The bench `filters` measures what they give; the figures
here are of one core's time, at 300,000 rows.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ..archive.filters import Selection
from .owners import Owners
from .rows import Allowed, Codes, Keys, Lists, Rows

_PASSED_OVER = 0.06  # a row that is not allowed, where few are
_UNFORESEEN = 3.8  # more for an allowed row among others: neither memory nor branches are foreseen
COMPARED_EXACTLY = 4.0
"""A float16 row from anywhere in memory, in codes compared one after the other."""
_USERS = 8  # whose own are left out of one selection: a recommendation asks again and again for the same


class Among:
    """The allowed rows, ascending."""

    def __init__(self, rows: Rows, allowed: Allowed | None = None) -> None:
        """`allowed` tells the same of every row, where that is known already."""
        self.rows = rows
        self._allowed = allowed
        self._of_lists: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] | None = None
        self._bits: Codes | None = None

    @classmethod
    def where(cls, allowed: Allowed) -> Among:
        """Those that are allowed."""
        return cls(np.flatnonzero(allowed), allowed)

    def __len__(self) -> int:
        return len(self.rows)

    def bits(self, rows: int) -> Codes:
        """A bit for each of so many rows, the lowest first: whether it is allowed."""
        if self._bits is None:
            allowed = self._allowed
            if allowed is None:
                allowed = np.zeros(rows, np.bool_)
                allowed[self.rows] = True
            self._bits, self._allowed = np.packbits(allowed, bitorder="little"), None
        return self._bits

    def of_lists(self, list_of: npt.NDArray[np.int32], sizes: Lists) -> tuple[Lists, npt.NDArray[np.float64]]:
        """How many allowed rows each list has, and what it costs to look for them there: nothing where none are."""
        if self._of_lists is None:
            counts = np.bincount(list_of[self.rows], minlength=len(sizes))
            others = sizes - counts
            alone = (others / np.maximum(sizes, 1)) ** 1.5
            costs = counts * (1 + _UNFORESEEN * alone) + _PASSED_OVER * others
            self._of_lists = counts, np.where(counts > 0, costs, 0.0)
        return self._of_lists


class AllowedRows:
    """The rows of each selection, of which the store lets go when it changes."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Selection, dict[str | None, Among]] = WeakKeyDictionary()

    def clear(self) -> None:
        """The rows have changed."""
        if self._kept:
            self._kept.clear()

    def of(self, selection: Selection, keys: Keys, owners: Owners, without_user: str | None) -> Among:
        """Of rows with these keys those that it names; without a user's, where one is named."""
        of_users = self._kept.setdefault(selection, {})
        user = without_user if owners.count(without_user) else None
        if None not in of_users:
            chosen = np.empty(0, np.int64) if selection.keys is None else selection.keys
            of_users[None] = Among(np.flatnonzero(np.isin(keys, chosen)))
        if user not in of_users:
            if len(of_users) > _USERS:
                del of_users[list(of_users)[1]]
            rows = of_users[None].rows
            of_users[user] = Among(rows[owners.others(user, rows)])
        return of_users[user]
