"""How far an approximate index must look so that it finds what an exact search finds.

Recall@10 is the part of the exact ten best that is among the ten found. The candidates of a search are compared by
the very scores the exact search has, so a row of the exact ten best is found if, and only if, it is a candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .approximate_vectors import ApproximateVectors
from .content import Vector
from .exact_vectors import BestRows, Rows

QUERIES_A_DIRECTION = 512
_K = 10
_SLOWEST = 4  # an index that must scan more than a quarter of its lists is hardly faster than the exact one


@dataclass(frozen=True, slots=True)
class Verdict:
    """The smallest `nprobe` that reaches the target in all directions, None if there is none; what it reached."""

    nprobe: int | None
    recall: dict[str, float]


class RecallGate:
    """Measures on stored vectors; text->image is the direction that decides, for those lie far from all images."""

    def __init__(self, queries: dict[str, tuple[Vector, Rows]]) -> None:
        """`queries` by direction: vectors, and the row each is itself (which it must not find), -1 for none."""
        self._directions = {
            name: (vectors, own, BestRows(len(vectors), _K + 1)) for name, (vectors, own) in queries.items()
        }
        self._exact: dict[str, list[list[int]]] = {}

    def add(self, block: Vector, first: int) -> None:
        """Compare all queries exactly with the rows `first`, `first` + 1, ... that `block` holds."""
        for vectors, _, best in self._directions.values():
            best.add(vectors, block, first)

    def judge(self, index: ApproximateVectors, target: float) -> Verdict:
        """Try `nprobe` on an index that holds exactly the rows added. Once only.

        The target counts as reached when the mean, less twice its standard error, does: another sample of queries
        should reach it, too.
        """
        for name, (_, own, best) in self._directions.items():
            self._exact[name] = [_others(row, found)[:_K] for row, found in zip(own, best.take()[1], strict=True)]
        most = max(1, index.lists // _SLOWEST)
        low, high = 0, 1  # low is not enough
        verdict = self._measure(index, high, target)
        while verdict.nprobe is None and high < most:
            low, high = high, min(2 * high, most)
            verdict = self._measure(index, high, target)
        while verdict.nprobe is not None and high - low > max(1, high // 16):
            middle = (low + high) // 2
            tried = self._measure(index, middle, target)
            if tried.nprobe is None:
                low = middle
            else:
                high, verdict = middle, tried
        return verdict

    def _measure(self, index: ApproximateVectors, nprobe: int, target: float) -> Verdict:
        recall, reached = {}, True
        for name, (vectors, _, _) in self._directions.items():
            pairs = zip(self._exact[name], index.candidates(vectors, _K + 1, nprobe), strict=True)
            found = [len(set(exact) & set(rows.tolist())) / len(exact) for exact, rows in pairs if exact]
            recall[name] = float(np.mean(found)) if found else 1.0
            reached &= recall[name] - 2 * float(np.std(found)) / len(found) ** 0.5 >= target if found else True
        return Verdict(nprobe if reached else None, recall)


def _others(own: int, rows: Rows) -> list[int]:
    return [row for row in rows.tolist() if row not in (own, -1)]
