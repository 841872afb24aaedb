"""The contents of one type: which is in which row, whose it is, and the search for the k best of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..archive.content import Content, ContentType, Hit, Vector, ranked
from .approximate import ApproximateVectors
from .exact import DType, ExactVectors, Rows, Scores
from .snapshot import Snapshot

_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of one shelf."""

    vector: Vector
    k: int
    without_user: str | None


class Shelf:
    """Row i of the vectors belongs to ids[i], whose owner is owners[i]. One thread at a time may call it."""

    def __init__(self, content_type: ContentType, dtype: DType) -> None:
        self.content_type = content_type
        self.vectors: ExactVectors | ApproximateVectors = ExactVectors(dtype)
        self.snapshots: list[Snapshot] = []  # that hold rows of this shelf: the finished one, and one being written
        self.ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._owners = np.empty(1024, np.int32)  # of these two only the first len(ids) count
        self._sha256s = np.empty((1024, 32), np.uint8)
        self._number_of: dict[str | None, int] = {None: _NOBODY}
        self._users: list[str | None] = []
        self._owned: Counter[int] = Counter()  # rows by owner; what it says of _NOBODY means nothing
        self._touched: set[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def note_touched(self) -> int:
        """Note from now on which rows change, for a copy of the vectors that is to be made; how many rows there are."""
        self._touched = set()
        return len(self)

    def forget_touched(self) -> None:
        """The copy is made, or given up."""
        self._touched = None

    def take_touched(self, most: int) -> tuple[Rows, Vector, int]:
        """The lowest `most` rows changed since they were last taken, the vectors of those still there, and len."""
        assert self._touched is not None
        rows = sorted(self._touched)[:most]
        self._touched.difference_update(rows)
        taken = np.array(rows, np.int64)
        return taken, self.vectors.read(taken[taken < len(self)]), len(self)

    @property
    def touched(self) -> int:
        """How many changed rows wait to be taken."""
        return len(self._touched or ())

    def upsert(self, contents: Sequence[Content]) -> None:
        """Append the new ones, overwrite the others in place; no id comes twice."""
        new: list[Content] = []
        for content in contents:
            if content.id in self._row_of:
                self._replace(self._row_of[content.id], content)
            else:
                new.append(content)
        if new:
            sha256s = np.frombuffer(b"".join(content.sha256 for content in new), np.uint8).reshape(-1, 32)
            self.vectors.append(np.stack([content.embedding.vector for content in new]))
            self.enter([content.id for content in new], [content.user for content in new], sha256s)

    def enter(self, ids: Sequence[str], users: Sequence[str | None], sha256s: npt.NDArray[np.uint8]) -> None:
        """Say what the rows belong to that the vectors have at their end and the shelf does not know yet."""
        first, end = len(self), len(self) + len(ids)
        while end > len(self._owners):
            self._owners = np.concatenate([self._owners, np.empty_like(self._owners)])
            self._sha256s = np.concatenate([self._sha256s, np.empty_like(self._sha256s)])
        for user in set(users):
            self._owner(user)
        numbers = [self._number_of[user] for user in users]
        self._owners[first:end] = numbers
        self._owned.update(numbers)
        self._sha256s[first:end] = sha256s
        self.ids += ids
        self._row_of.update(zip(ids, range(first, end), strict=True))
        if self._touched is not None:
            self._touched.update(range(first, end))

    def _replace(self, row: int, content: Content) -> None:
        sha256 = np.frombuffer(content.sha256, np.uint8)
        if not np.array_equal(sha256, self._sha256s[row]):
            for snapshot in self.snapshots:
                snapshot.forget(row)
        self._sha256s[row] = sha256
        self.vectors.overwrite(row, content.embedding.vector)
        self._set_owner(row, self._owner(content.user))
        if self._touched is not None:
            self._touched.add(row)

    def delete(self, content_id: str) -> None:
        """Move the last row into the freed one: the cost does not grow with the index."""
        row = self._row_of.pop(content_id, None)
        if row is None:
            return
        last = len(self.ids) - 1
        for snapshot in self.snapshots:
            snapshot.forget(row)
            snapshot.move(last, row)
        self._set_owner(row, _NOBODY)
        if row != last:
            self.ids[row] = self.ids[last]
            self._row_of[self.ids[row]] = row
            self._sha256s[row] = self._sha256s[last]
            self._set_owner(row, int(self._owners[last]))
            self._set_owner(last, _NOBODY)
        self.ids.pop()
        self.vectors.remove(row)
        if self._touched is not None:
            self._touched.update((row, last))

    def write_to(self, snapshot: Snapshot, first: int, most: int) -> bool:
        """Put up to `most` rows from `first` on into a snapshot; whether there were any."""
        rows = np.arange(first, min(first + most, len(self)))
        vectors = self.vectors
        lists = vectors.list_of(rows) if isinstance(vectors, ApproximateVectors) else np.zeros(len(rows), np.int32)
        snapshot.write(rows, self._sha256s[rows], lists, vectors.codes()[rows])
        return len(rows) > 0

    def search(self, queries: Sequence[Query]) -> list[list[Hit]]:
        """All queries in one pass; those it did not settle are asked again alone."""
        if not self.ids:
            return [[] for _ in queries]
        # A selector inside the search would forgo the matrix product, so more is fetched and the user's rows dropped;
        # one more than k shows whether k cuts through equal scores.
        fetch = max(1 + query.k + min(self._owned_by(query.without_user), query.k) for query in queries)
        scores, found = self.vectors.search(np.stack([query.vector for query in queries]), min(len(self), fetch))
        return [self._settle(*each) for each in zip(queries, scores, found, strict=True)]

    def _settle(self, query: Query, scores: Scores, found: Rows) -> list[Hit]:
        """The best rows there are, best first -> the k best that are not the user's, ties by id."""
        owned = self._owned_by(query.without_user)
        available = len(self.ids) - owned
        keep = found >= 0
        if owned:
            keep &= self._owners[found] != self._number_of[query.without_user or ""]
        scores, found = scores[keep], found[keep]
        if self.vectors.kind == "exact":
            settled = len(found) == available or (len(found) > query.k and scores[query.k - 1] != scores[-1])
        else:
            settled = len(found) >= min(query.k, available)
        if not settled:
            scores, found = self._ask_alone(query, min(query.k, available), owned > 0)
        return ranked(self._hits(scores, found), query.k)

    def _ask_alone(self, query: Query, k: int, select: bool) -> tuple[Scores, Rows]:
        others = self._owners[: len(self.ids)] != self._number_of[query.without_user or ""] if select else None
        return self.vectors.search_among(query.vector, k, others)

    def _owned_by(self, user: str | None) -> int:
        number = self._number_of.get(user) if user is not None else None
        return 0 if number is None else self._owned[number]

    def _owner(self, user: str | None) -> int:
        if user not in self._number_of:
            self._number_of[user] = len(self._users)
            self._users.append(user)
        return self._number_of[user]

    def _set_owner(self, row: int, owner: int) -> None:
        self._owned[int(self._owners[row])] -= 1
        self._owners[row] = owner
        self._owned[owner] += 1

    def _hits(self, scores: Scores, rows: Rows) -> list[Hit]:
        hits = []
        for score, row in zip(scores.tolist(), rows.tolist(), strict=True):
            owner = int(self._owners[row])
            user = None if owner == _NOBODY else self._users[owner]
            hits.append(Hit(self.ids[row], self.content_type, user, min(score, 1.0)))
        return hits
