"""How far an approximate index must look so that it finds what an exact search finds.

Recall@10 is the part of the exact ten best that is among the ten found. The candidates of a search are compared by
the very scores the exact search has, so a row of the exact ten best is found if, and only if, it is a candidate.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from ..archive.content import Vector
from .approximate import ApproximateVectors
from .exact import BestRows
from .rows import Rows

QUERIES_A_DIRECTION = 512
_K = 10
_SLOWEST = 4  # an index that must scan more than a quarter of its lists is hardly faster than the exact one


@dataclass(frozen=True, slots=True)
class Verdict:
    """The smallest `nprobe` that reaches the target in all directions, None if there is none; what it reached.

    `reached` is the recall of the worst direction, less what another sample of queries may fall short.
    """

    nprobe: int | None
    recall: dict[str, float]
    reached: float


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
        """Try `nprobe` on an index that holds exactly the rows added. Once only."""
        for name, (_, own, best) in self._directions.items():
            self._exact[name] = [_others(row, found)[:_K] for row, found in zip(own, best.take()[1], strict=True)]
        most = max(1, index.lists // _SLOWEST)
        # A row can only be found in a list that is looked into: a bound that takes no search, and is nearly reached.
        ranks = self._ranks(index, most)
        nprobe = 1 + bisect_left(
            range(1, most), True, key=lambda nprobe: all(_sure(_parts(rank, nprobe)) >= target for rank in ranks)
        )
        verdict = self._measure(index, nprobe, target)
        while verdict.nprobe is None and nprobe < most:
            nprobe = min(nprobe + max(1, nprobe // 16), most)
            verdict = self._measure(index, nprobe, target)
        return verdict

    def _ranks(self, index: ApproximateVectors, most: int) -> list[list[Rows]]:
        """By direction and query: when a search comes to the lists of the exact best, 0 for its first list."""
        ranks = []
        for name, (vectors, _, _) in self._directions.items():
            places = np.full(index.lists, most)
            of_direction = []
            for probed, exact in zip(index.probed(vectors, most), self._exact[name], strict=True):
                places[probed] = np.arange(most)
                of_direction.append(places[index.list_of(np.array(exact, np.int64))])
                places[probed] = most
            ranks.append(of_direction)
        return ranks

    def _measure(self, index: ApproximateVectors, nprobe: int, target: float) -> Verdict:
        recall, reached = {}, 1.0
        for name, (vectors, _, _) in self._directions.items():
            pairs = zip(self._exact[name], index.candidates(vectors, _K + 1, nprobe), strict=True)
            parts = [len(set(exact) & set(rows.tolist())) / len(exact) for exact, rows in pairs if exact]
            recall[name] = float(np.mean(parts)) if parts else 1.0
            reached = min(reached, _sure(parts))
        return Verdict(nprobe if reached >= target else None, recall, reached)


def _parts(ranks: list[Rows], nprobe: int) -> list[float]:
    return [float(np.mean(rank < nprobe)) for rank in ranks if len(rank)]


def _sure(parts: list[float]) -> float:
    """Their mean less twice its standard error: what another sample of queries should reach, too."""
    return float(np.mean(parts)) - 2 * float(np.std(parts)) / len(parts) ** 0.5 if parts else 1.0


def _others(own: int, rows: Rows) -> list[int]:
    return [row for row in rows.tolist() if row not in (own, -1)]
