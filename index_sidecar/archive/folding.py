"""Copies folded: a hit with the same bytes as a better one, or nearly its vector, goes under it.

A group is spoken for by its best hit, its leader, and what comes later is compared with leaders only: so no chain of
small steps ever joins what is unlike, and the groups of the first hits stay the same however many follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .content import DIMENSION, Content, Duplicates, Hit, Vector
from .grouping import NEAR_IDENTICAL

_NAMED = 100


class Folder:
    """Groups of hits of one type, which come best first, some at a time."""

    def __init__(self) -> None:
        self.leaders: list[Hit] = []
        self._copies: list[list[str]] = []  # ids, by leader
        self._leader_of: dict[bytes, int] = {}  # by the SHA-256 of any member
        self._vectors: Vector = np.empty((64, DIMENSION), np.float32)  # of the leaders; the rest is room

    def add(self, hits: Sequence[Hit], contents: Sequence[Content]) -> None:
        """Fold the next hits in. One whose content is not there is gone, and left out. Not for the event loop."""
        content_of = {content.id: content for content in contents}
        there = [hit for hit in hits if hit.id in content_of]
        if not there:
            return
        vectors = np.stack([content_of[hit.id].embedding.vector for hit in there])  # (len(there), 512)
        before = len(self.leaders)
        near_old = vectors @ self._vectors[:before].T >= NEAR_IDENTICAL
        near_new = vectors @ vectors.T >= NEAR_IDENTICAL
        row_of_leader: list[int] = []  # of those that are new
        for row, hit in enumerate(there):
            sha256 = content_of[hit.id].sha256
            leader = self._leader_of.get(sha256)
            if leader is None:
                old, new = np.flatnonzero(near_old[row]), np.flatnonzero(near_new[row, row_of_leader])
                leader = int(old[0]) if len(old) else before + int(new[0]) if len(new) else None
            if leader is None:
                leader = len(self.leaders)
                self.leaders.append(hit)
                self._copies.append([])
                self._keep(vectors[row], leader)
                row_of_leader.append(row)
            else:
                self._copies[leader].append(hit.id)
            self._leader_of[sha256] = leader

    def folded(self) -> list[Hit]:
        """The leaders, each with what went under it."""
        return [
            replace(leader, duplicates=Duplicates(len(copies), tuple(copies[:_NAMED]))) if copies else leader
            for leader, copies in zip(self.leaders, self._copies, strict=True)
        ]

    def _keep(self, vector: Vector, place: int) -> None:
        if place == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[place] = vector
