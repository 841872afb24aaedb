"""Whose each row is. A user's name is kept once, and only as long as a row is the user's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .rows import Allowed, Rows, with_room

_NOBODY = -1


class Owners:
    """One owner, or none, for each of `len` rows; a row that is removed is filled with the last."""

    def __init__(self) -> None:
        self._size = 0
        self._numbers = np.empty(1024, np.int32)  # of the users; only the first `_size` count
        self._number_of: dict[str | None, int] = {None: _NOBODY}
        self._users: list[str | None] = []  # by number; None where the number is free
        self._owned: list[int] = []  # rows, by number
        self._free: list[int] = []

    def __getitem__(self, row: int) -> str | None:
        number = int(self._numbers[row])
        return None if number == _NOBODY else self._users[number]

    def __setitem__(self, row: int, user: str | None) -> None:
        before = int(self._numbers[row])
        self._numbers[row] = self._take(user, 1)
        self._give(before)

    def names(self) -> set[str]:
        """All users that own a row."""
        return {user for user in self._users if user is not None}

    def extend(self, users: Sequence[str | None]) -> None:
        """Add rows at the end."""
        for user, rows in Counter(users).items():
            self._take(user, rows)
        end = self._size + len(users)
        self._numbers = with_room(self._numbers, end)
        self._numbers[self._size : end] = list(map(self._number_of.__getitem__, users))
        self._size = end

    def remove(self, row: int) -> None:
        """Move the last row into the freed one."""
        gone = int(self._numbers[row])
        self._size -= 1
        self._numbers[row] = self._numbers[self._size]
        self._give(gone)

    def count(self, user: str | None) -> int:
        """How many rows are the user's; none are nobody's."""
        number = self._number_of.get(user, _NOBODY)
        return 0 if number == _NOBODY else self._owned[number]

    def others(self, user: str | None, rows: Rows | None = None) -> Allowed:
        """Which of these rows, or of all, are not the user's, who owns at least one."""
        numbers = self._numbers[: self._size] if rows is None else self._numbers[rows]
        others: Allowed = numbers != self._number_of[user]
        return others

    def _take(self, user: str | None, rows: int) -> int:
        number = self._number_of.get(user)
        if number is None:
            if not self._free:
                self._free.append(len(self._users))
                self._users.append(None)
                self._owned.append(0)
            number = self._number_of[user] = self._free.pop()
            self._users[number] = user
        if number != _NOBODY:
            self._owned[number] += rows
        return number

    def _give(self, number: int) -> None:
        if number == _NOBODY:
            return
        self._owned[number] -= 1
        if not self._owned[number]:
            del self._number_of[self._users[number]]
            self._users[number] = None
            self._free.append(number)
