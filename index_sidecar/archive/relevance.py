"""Relevance: a cosine made comparable across directions, such as text -> image, by what unrelated contents score there.

CLIP's cosines live on another scale in each direction: two unrelated texts score about 0.6, a text and the picture it
describes 0.3. So the archive itself says what is usual. From a sample of the contents of both types come the scores of
pairs by chance; their median m and their lower half-spread s (median minus 16th percentile, which is one standard
deviation of a normal distribution, and which the few related pairs, being on the upper side, hardly move) give

    z = (score - m) / s        relevance = 1 / (1 + exp(3 - z))

The normalisation is the Z-norm of speaker verification (Auckenthaler, Carey & Lloyd-Thomas 2000, "Score normalization
for text-independent speaker verification systems") with robust estimates. The logistic map only brings z into 0..1:
a pair by chance has 0.05, 0.5 is three spreads above it.

What it is not: a probability that a person would call the content relevant, which only judged examples could give; nor
comparable between archives, since in an archive of cats alone two cats are nothing special. It orders the contents of
one type exactly as the cosine does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from .content import CONTENT_TYPES, Content, ContentType, Hit, Vector

SAMPLE = 512
"""Contents of each type that stand for all of it."""
SMALLEST_SAMPLE = 50
"""Below it relevance is unknown: too few to say what is usual."""
_Z_OF_HALF = 3.0
_LOWER_PERCENTILE = 15.87

Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Direction = tuple[ContentType, ContentType]


@dataclass(frozen=True, slots=True)
class Background:
    """What pairs by chance score in one direction: median and lower half-spread."""

    median: float
    spread: float

    def z(self, scores: Scores) -> npt.NDArray[np.float64]:
        """How many spreads above a pair by chance."""
        return (np.asarray(scores, np.float64) - self.median) / self.spread


@dataclass(frozen=True, slots=True)
class Calibration:
    """The backgrounds by (type of the query, type of the content), as far as they are known.

    `samples` has the vectors they come from, (n, 512) by type.
    """

    backgrounds: Mapping[Direction, Background] = field(default_factory=dict)
    samples: Mapping[ContentType, Vector] = field(default_factory=dict, compare=False, repr=False)

    def of_question(self, vector: Vector) -> Calibration:
        """What contents by chance score for this one vector, which is of no type: the same for either."""
        backgrounds = {each: _background(sample @ vector) for each, sample in self.samples.items()}
        return Calibration({(query, each): known for each, known in backgrounds.items() for query in CONTENT_TYPES})

    def means(self) -> dict[ContentType, Vector]:
        """The mean vector of each type of which enough is known."""
        return {each: sample.mean(axis=0) for each, sample in self.samples.items()}

    def relevance(self, score: float, query: ContentType, content: ContentType) -> float | None:
        """0..1, rising with the score; None where the archive is too small to say what is usual."""
        background = self.backgrounds.get((query, content))
        return None if background is None else float(_logistic(background.z(np.asarray([score])))[0])

    def rated(self, hits: Sequence[Hit], query: ContentType) -> list[Hit]:
        """Hits of one type, with their relevance where it is known: all in one pass."""
        background = self.backgrounds.get((query, hits[0].type)) if hits else None
        if background is None:
            return list(hits)
        rates = _logistic(background.z(np.array([hit.score for hit in hits]))).tolist()
        return [replace(hit, relevance=rate) for hit, rate in zip(hits, rates, strict=True)]

    def comparable(
        self, cosines: Scores, query: ContentType, contents: Sequence[ContentType]
    ) -> npt.NDArray[np.float64]:
        """The relevance of each score, or all the scores themselves where one of the directions is unknown."""
        types = np.asarray(contents)
        result = np.asarray(cosines, np.float64).copy()
        present = [each for each in CONTENT_TYPES if (types == each).any()]
        if all((query, each) in self.backgrounds for each in present):
            for each in present:
                result[types == each] = _logistic(self.backgrounds[query, each].z(result[types == each]))
        return result


def calibrate(samples: Mapping[ContentType, Sequence[Content]]) -> Calibration:
    """The backgrounds in every direction between two types of which the sample is large enough."""
    enough = {each: sample for each, sample in samples.items() if len(sample) >= SMALLEST_SAMPLE}
    vectors = {each: np.stack([content.embedding.vector for content in sample]) for each, sample in enough.items()}
    digests = {each: np.array([content.sha256.hex() for content in sample]) for each, sample in enough.items()}
    backgrounds = {}
    for query in enough:
        for content in enough:
            pairs = vectors[query] @ vectors[content].T
            others = digests[query][:, None] != digests[content][None, :]  # the same bytes are no pair by chance
            if others.any():
                backgrounds[query, content] = _background(pairs[others])
    return Calibration(backgrounds, vectors)


def _background(scores: Scores) -> Background:
    low, median = np.percentile(scores, (_LOWER_PERCENTILE, 50.0))
    return Background(float(median), max(float(median - low), 1e-6))


class Calibrator:
    """Keeps a calibration that fits the archive: measured anew once a type has grown or shrunk by half, not before.

    It costs two samples and three products of 512 x 512 rows, however large the archive is.
    """

    def __init__(self, sample: Callable[[ContentType, int], Awaitable[list[Content]]]) -> None:
        self._sample = sample
        self._measured: Mapping[ContentType, int] = dict.fromkeys(CONTENT_TYPES, 0)
        self._calibration = Calibration()
        self._one_at_a_time = asyncio.Lock()

    async def current(self, counts: Mapping[ContentType, int]) -> Calibration:
        """The calibration of an archive with so many contents of each type."""
        async with self._one_at_a_time:
            if any(_outgrown(self._measured[each], counts[each]) for each in CONTENT_TYPES):
                samples = {each: await self._sample(each, SAMPLE) for each in CONTENT_TYPES}
                self._calibration = await asyncio.to_thread(calibrate, samples)
                self._measured = dict(counts)
            return self._calibration


def _outgrown(before: int, now: int) -> bool:
    if now < SMALLEST_SAMPLE:
        return before >= SMALLEST_SAMPLE
    return not before / 1.5 <= now <= before * 1.5


def _logistic(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(_Z_OF_HALF - z, -700, 700))))
