"""What to recommend after a user's history: seeds out of it, and a choice among the contents near them.

Pure: vectors in, order out. Rows are unit vectors, so a product of two is their cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .content import Content, Hit
from .relevance import Calibration

Kind = Literal["cluster", "item", "serendipity"]
Rows = npt.NDArray[np.float32]

HISTORY = 300
"""Newest contents of each type that are looked at: clustering takes quadratic time and memory."""
NEAR_IDENTICAL = 0.97
"""Cosine from which on a content is the same again, for a reader."""
_SMALLEST_CLUSTER = 3
_MOST_SEEDS = 6
_STRAY_SPREADS = 5
_SERENDIPITY_FROM_K = 3


@dataclass(frozen=True, slots=True)
class Seed:
    """A content of the history that recommendations follow from; `weight` is its share of the answers, unscaled."""

    content: Content
    kind: Kind
    weight: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A content the user does not have, and the seed it follows from."""

    hit: Hit
    seed: Seed


def warm_up() -> None:
    """Import scikit-learn, a second or two that the first recommendation would wait for."""
    import sklearn.cluster  # noqa: F401


@dataclass(frozen=True, slots=True)
class Clusters:
    """What a history falls into, by row: each cluster's medoid and weight, and the contents like no others."""

    medoids: tuple[tuple[int, float], ...]
    outliers: tuple[int, ...]


def clusters_of(history: Sequence[Content]) -> Clusters:
    """The clusters in contents of one type, newest first.

    HDBSCAN (Campello, Moulavi & Sander 2013) finds them: Euclidean distance orders unit vectors as cosine does. A
    cluster is spoken for by its medoid and weighs the sum of its members' recency, which halves over half of the
    history.
    """
    from sklearn.cluster import HDBSCAN  # not above: see warm_up

    if len(history) <= _SMALLEST_CLUSTER:
        return Clusters((), tuple(range(len(history))))
    vectors, recency, medoids = _vectors(history), _recency(history), []
    labels = HDBSCAN(min_cluster_size=_SMALLEST_CLUSTER, algorithm="brute", copy=True).fit(vectors).labels_
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        closeness = vectors[members] @ vectors[members].mean(axis=0)
        stray = _strays(closeness)
        labels[members[stray]] = -1
        medoids.append((int(members[closeness.argmax()]), float(recency[members[~stray]].sum())))
    return Clusters(tuple(medoids), tuple(np.flatnonzero(labels == -1).tolist()))


def seeds_of(
    history: Sequence[Content], find: Callable[[Sequence[Content]], Clusters] = clusters_of
) -> tuple[list[Seed], list[Content]]:
    """The seeds in contents of one type, newest first, heaviest seed first; and the contents like no others.

    `find` gives the clusters. Where there is none, the newest contents are seeds themselves.
    """
    clusters = find(history)
    seeds = [Seed(history[row], "cluster", weight) for row, weight in clusters.medoids]
    if not seeds:
        newest = zip(history[:_MOST_SEEDS], _recency(history).tolist(), strict=False)
        return [Seed(content, "item", weight) for content, weight in newest], []
    seeds.sort(key=lambda seed: -seed.weight)
    return seeds[:_MOST_SEEDS], [history[row] for row in clusters.outliers]


def _recency(history: Sequence[Content]) -> npt.NDArray[np.float64]:
    return np.asarray(np.exp2(-2 * np.arange(len(history)) / max(len(history), 1)))


def _strays(closeness: Rows) -> npt.NDArray[np.bool_]:
    """Which members of a cluster are no part of it: HDBSCAN also labels what falls off a cluster as it gets denser."""
    median = np.median(closeness)
    spread = 1.4826 * np.median(np.abs(closeness - median))  # one standard deviation of a normal distribution
    return np.asarray(closeness < median - _STRAY_SPREADS * max(spread, 0.01))


def seeds_of_all(
    histories: Sequence[Sequence[Content]], seed: int, find: Callable[[Sequence[Content]], Clusters] = clusters_of
) -> list[Seed]:
    """The seeds of each type's history, and one of all outliers, drawn with the random seed, if there are any."""
    seeds: list[Seed] = []
    outliers: list[Content] = []
    for history in histories:
        some, odd = seeds_of(history, find)
        seeds += some
        outliers += odd
    if outliers:
        chosen = outliers[np.random.default_rng(seed).integers(len(outliers))]
        seeds.append(Seed(chosen, "serendipity", 0.0))
    return seeds


def new_to(history: Sequence[Content], candidates: Sequence[Content]) -> list[Content]:
    """The candidates that are not nearly identical to anything in the history."""
    if not candidates or not history:
        return list(candidates)
    closest = (_vectors(candidates) @ _vectors(history).T).max(axis=1)
    return [each for each, cosine in zip(candidates, closest, strict=True) if cosine < NEAR_IDENTICAL]


def choose(
    candidates: Sequence[Content], seeds: Sequence[Seed], k: int, diversity: float, calibration: Calibration
) -> list[Recommendation]:
    """The k best candidates, in proportion to the seeds' weights, no two of them nearly identical.

    Each candidate belongs to the seed it is most relevant to. Whose turn it is, is decided as seats are in an
    election, by highest averages (Sainte-Laguë; Dang & Croft 2012, "Diversity by proportionality"); which of the
    seed's candidates, by maximal marginal relevance (Carbonell & Goldstein 1998): the greatest
    (1 - diversity) * relevance - diversity * relevance to the most similar content chosen so far.
    The last tenth, one at least from k = 3 on, is serendipity's: so another random seed changes nothing else.
    """
    if not candidates or not seeds:
        return []
    candidates = sorted(candidates, key=lambda content: content.id)
    choice = _Choice(candidates, seeds, diversity, calibration)
    usual = [number for number, seed in enumerate(seeds) if seed.kind != "serendipity"]
    odd = [number for number, seed in enumerate(seeds) if seed.kind == "serendipity"]
    reserved = max(1, k // 10) if odd and k >= _SERENDIPITY_FROM_K else 0
    choice.take(usual, k - reserved)
    choice.take(odd, k)
    choice.take(usual, k)
    return choice.chosen


class _Choice:
    """What is chosen so far, and of what is left: whose it is, how relevant, and how much of it was seen already."""

    def __init__(
        self, candidates: Sequence[Content], seeds: Sequence[Seed], diversity: float, calibration: Calibration
    ) -> None:
        self.chosen: list[Recommendation] = []
        self._candidates, self._seeds = candidates, seeds
        self._diversity, self._calibration = diversity, calibration
        self._vectors = _vectors(candidates)
        self._cosines = _vectors([seed.content for seed in seeds]) @ self._vectors.T  # (seeds, candidates)
        relevance = np.stack(
            [self._relevance(row, seed.content) for row, seed in zip(self._cosines, seeds, strict=True)]
        )
        self._owner = relevance.argmax(axis=0)
        self._value = relevance.max(axis=0)
        self._seen = np.zeros(len(candidates))
        self._left = np.ones(len(candidates), bool)
        self._taken = [0] * len(seeds)

    def take(self, allowed: Sequence[int], total: int) -> None:
        """Choose among the candidates of these seeds until `total` are chosen or none is left."""
        while len(self.chosen) < total:
            able = [number for number in allowed if (self._left & (self._owner == number)).any()]
            if not able:
                return
            self._take_one(max(able, key=lambda number: self._seeds[number].weight / (2 * self._taken[number] + 1)))

    def _take_one(self, number: int) -> None:
        rows = np.flatnonzero(self._left & (self._owner == number))
        gain = (1 - self._diversity) * self._value[rows] - self._diversity * self._seen[rows]
        row = int(rows[gain.argmax()])
        content, seed = self._candidates[row], self._seeds[number]
        score = min(float(self._cosines[number, row]), 1.0)
        relevance = self._calibration.relevance(score, seed.content.type, content.type)
        self.chosen.append(Recommendation(Hit(content.id, content.type, content.user, score, relevance), seed))
        self._taken[number] += 1
        cosines = self._vectors @ self._vectors[row]
        self._left &= cosines < NEAR_IDENTICAL
        self._left[row] = False
        self._seen = np.maximum(self._seen, self._relevance(cosines, content))

    def _relevance(self, cosines: Rows, to: Content) -> npt.NDArray[np.float64]:
        return self._calibration.comparable(cosines, to.type, [content.type for content in self._candidates])


def _vectors(contents: Sequence[Content]) -> Rows:
    """(n, 512)"""
    return np.stack([content.embedding.vector for content in contents])
