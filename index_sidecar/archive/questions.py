"""A question of several parts, texts, pictures and stored contents, each with a weight -> one vector.

Texts and pictures lie in regions of their own (Liang et al. 2022, "Mind the Gap"): the mean of either is a large part
of each of its vectors and says nothing about it. A sum of both kinds mostly names these regions, and a picture less a
word leads away from all texts. So each part is freed of its kind's mean first, where the archive is large enough to
know it. In planted worlds (bench/questions.py) that finds up to a fifth more of what is right, and nowhere over a
hundredth less. Freed parts are not brought to unit length again, which made next to no difference: what is near the
mean of its kind says little, and shall weigh little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .content import ContentType, Original, Vector
from .errors import InvalidInput

MOST_PARTS = 16
_SMALLEST_NORM = 1e-3  # of a sum, beside the weights': less is what the model's rounding leaves


@dataclass(frozen=True, slots=True)
class Part:
    """One part: a text or a picture of a type, or the id of a stored content; a negative weight leads away from it."""

    what: Original | str
    type: ContentType | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Term:
    """A part's unit vector, type and weight."""

    vector: Vector
    type: ContentType
    weight: float


def combined(terms: Sequence[Term], means: Mapping[ContentType, Vector]) -> Vector:
    """The (512,) normalised weighted sum; the vector itself of a single part. Raises InvalidInput where it cancels."""
    if len(terms) == 1:
        return terms[0].vector
    known = all(term.type in means for term in terms)
    total = np.zeros_like(terms[0].vector, np.float64)
    for term in terms:
        total += term.weight * (term.vector.astype(np.float64) - (means[term.type] if known else 0.0))
    norm = float(np.linalg.norm(total))
    if norm < _SMALLEST_NORM * sum(abs(term.weight) for term in terms):
        raise InvalidInput("the parts cancel each other out: nothing is left to look for", "parts_cancel")
    vector: Vector = np.asarray(total / norm, np.float32)
    return vector
