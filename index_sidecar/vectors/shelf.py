"""The contents of one type: which is in which row, whose it is, and the search for the k best of others."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..archive.content import Content, ContentType, Hit, Vector
from ..archive.filters import Selection
from .allowed import AllowedRows, Among
from .approximate import ApproximateVectors
from .exact import DType, ExactVectors
from .owners import Owners
from .rows import MARGIN, SLACK, Keys, Prints, Rows, Scores, prints_of, with_room


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of one shelf."""

    vector: Vector
    k: int
    without_user: str | None
    among: Selection | None = None


class Shelf:
    """Row i of the vectors belongs to ids[i], whose owner is owners[i]. One thread at a time may call it."""

    def __init__(self, content_type: ContentType, dtype: DType) -> None:
        self.content_type = content_type
        self.vectors: ExactVectors | ApproximateVectors = ExactVectors(dtype)
        self.ids: list[str] = []
        self.owners = Owners()
        self._allowed = AllowedRows()
        self._row_of: dict[str, int] = {}
        self._prints: Prints = np.empty(1024, np.uint64)  # of these two only the first len(ids) count
        self._keys: Keys = np.empty(1024, np.int64)
        self._touched: set[int] | None = None
        self._changes: dict[str, Content | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, content_id: str) -> bool:
        return content_id in self._row_of

    @property
    def prints(self) -> Prints:
        """Of each row, for a moment only."""
        return self._prints[: len(self)]

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

    def note_changes(self) -> None:
        """Note from now on what changes by id, for a shelf that is filled from the store to take this one's place."""
        self._changes = {}

    def forget_changes(self) -> None:
        """It has taken its place, or was given up."""
        self._changes = None

    def take_changes(self) -> dict[str, Content | None]:
        """What each id that changed since this was last asked holds now; None for nothing."""
        changes, self._changes = self._changes or {}, {}
        return changes

    @property
    def changes(self) -> int:
        """How many wait to be taken."""
        return len(self._changes or ())

    def apply(self, changes: Mapping[str, Content | None]) -> None:
        """Change as another shelf has changed."""
        for content_id, content in changes.items():
            if content is None:
                self.delete(content_id)
        self.upsert([content for content in changes.values() if content is not None])

    def upsert(self, contents: Sequence[Content]) -> None:
        """Append the new ones, overwrite the others in place; no id comes twice."""
        new: list[Content] = []
        for content in contents:
            if content.id in self._row_of:
                self._replace(self._row_of[content.id], content)
            else:
                new.append(content)
        if new:
            self.vectors.append(np.stack([content.embedding.vector for content in new]))
            prints = prints_of([content.sha256 for content in new])
            keys, ids, users = zip(*((content.key or 0, content.id, content.user) for content in new), strict=True)
            self.enter(keys, ids, users, prints)
        if self._changes is not None:
            self._changes.update((content.id, content) for content in contents)

    def enter(self, keys: Sequence[int], ids: Sequence[str], users: Sequence[str | None], prints: Prints) -> None:
        """Say what the rows belong to that the vectors have at their end and the shelf does not know yet."""
        self._allowed.clear()
        first, end = len(self), len(self) + len(ids)
        self._prints = with_room(self._prints, end)
        self._prints[first:end] = prints
        self._keys = with_room(self._keys, end)
        self._keys[first:end] = keys
        self.owners.extend(users)
        self.ids += ids
        self._row_of.update(zip(ids, range(first, end), strict=True))
        if self._touched is not None:
            self._touched.update(range(first, end))

    def _replace(self, row: int, content: Content) -> None:
        self._allowed.clear()
        self._prints[row] = prints_of([content.sha256])[0]
        self._keys[row] = content.key or 0
        self.vectors.overwrite(row, content.embedding.vector)
        self.owners[row] = content.user
        if self._touched is not None:
            self._touched.add(row)

    def delete(self, content_id: str) -> None:
        """Move the last row into the freed one: the cost does not grow with the index."""
        if self._changes is not None:
            self._changes[content_id] = None
        row = self._row_of.pop(content_id, None)
        if row is None:
            return
        self._allowed.clear()
        last = len(self.ids) - 1
        if row != last:
            self.ids[row] = self.ids[last]
            self._row_of[self.ids[row]] = row
            self._prints[row] = self._prints[last]
            self._keys[row] = self._keys[last]
        self.ids.pop()
        self.owners.remove(row)
        self.vectors.remove(row)
        if self._touched is not None:
            self._touched.update((row, last))

    def search(self, queries: Sequence[Query]) -> list[list[Hit]]:
        """All queries in one pass; those it did not settle are asked again alone."""
        if not self.ids:
            return [[] for _ in queries]
        everywhere = iter(self._search([query for query in queries if query.among is None]))
        return [
            next(everywhere) if query.among is None else self._search_among(query, query.among) for query in queries
        ]

    def _search_among(self, query: Query, selection: Selection) -> list[Hit]:
        """The k best of what is selected, ties by id."""
        keys = self._keys[: len(self)]
        return self._best_among(query, self._allowed.of(selection, keys, self.owners, query.without_user))

    def _best_among(self, query: Query, among: Among) -> list[Hit]:
        """The k best of the allowed rows, ties by id."""
        k = min(query.k, len(among))
        if not k:
            return []
        rows = self.vectors.search_among(query.vector, k, among)
        return self._ranked(k, self.vectors.scores(query.vector, rows), rows)

    def _search(self, queries: Sequence[Query]) -> list[list[Hit]]:
        """All queries for everything in one pass."""
        if not queries:
            return []
        owned = self.owners.count(queries[0].without_user)
        if owned and len(queries) == 1 and self.vectors.complete:
            # Alone it has no matrix product to share: one pass over the others' rows, however near the user's are.
            others = self.owners.others(queries[0].without_user)
            return [self._best_among(queries[0], Among.where(others))]
        # To choose rows inside the search would forgo the matrix product, so more is fetched and the user's dropped;
        # some more than k show whether k cuts through scores that are equal once they are rounded.
        fetch = [
            query.k + SLACK + query.k // 8 + min(self.owners.count(query.without_user), query.k) for query in queries
        ]
        if self.vectors.complete:
            return self._search_together(queries, max(fetch))
        # Who asks an approximate index for more meets others: each answer has to be as if it were asked alone.
        answers: dict[int, list[Hit]] = {}
        for size in sorted(set(fetch)):
            alike = [number for number, each in enumerate(fetch) if each == size]
            answers.update(zip(alike, self._search_together([queries[n] for n in alike], size), strict=True))
        return [answers[number] for number in range(len(queries))]

    def _search_together(self, queries: Sequence[Query], fetch: int) -> list[list[Hit]]:
        scores, found = self.vectors.search(np.stack([query.vector for query in queries]), min(len(self), fetch))
        return [self._settle(*each) for each in zip(queries, scores, found, strict=True)]

    def _settle(self, query: Query, scores: Scores, found: Rows) -> list[Hit]:
        """The best rows there are, best first -> the k best that are not the user's, ties by id."""
        owned = self.owners.count(query.without_user)
        k = min(query.k, len(self) - owned)
        rows = found[found >= 0]
        if owned:
            rows = rows[self.owners.others(query.without_user, rows)]
        exact = self.vectors.scores(query.vector, rows)
        if len(rows) < len(self) - owned:
            settled = len(rows) >= k
            if settled and self.vectors.complete:  # what was not fetched scores no higher than the last that was
                settled = bool(np.partition(exact, len(rows) - k)[len(rows) - k] > scores[-1] + MARGIN)
            if not settled:
                others = Among.where(self.owners.others(query.without_user)) if owned else None
                rows = self.vectors.search_among(query.vector, k, others)
                exact = self.vectors.scores(query.vector, rows)
        return self._ranked(k, exact, rows)

    def _ranked(self, k: int, exact: npt.NDArray[np.float64], rows: Rows) -> list[Hit]:
        found_by_id = ((-score, self.ids[row], row) for score, row in zip(exact.tolist(), rows.tolist(), strict=True))
        best = heapq.nsmallest(k, found_by_id)
        return [Hit(content_id, self.content_type, self.owners[row], -score) for score, content_id, row in best]
