"""What an approximate index learns from a sample of its rows: the centroids of its lists, the reach of its codes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import faiss
import numpy as np

from ..archive.content import DIMENSION, Vector
from .rows import Codes, Rows

_POINTS_A_LIST = 40  # what k-means learns a centroid from; Faiss advises 39 to 256, and the cost grows with it
_LEAST_POINTS_A_LIST = 5
_ROWS_A_PAGE = 8192
_NEAR = 1e-3  # squared distance of unit vectors, a cosine of 0.9995: the same picture, saved once more
LEAST_ROWS = 32
"""Distinct rows that training needs: what it learns of fewer tells too much of each."""
_DEVIATIONS = 4.0  # from the mean of a dimension that its 8-bit codes reach; what is further out is cut to that


@dataclass(frozen=True, slots=True)
class Trained:
    """All that a build has learned, of which no part is, or nearly is, a single vector."""

    state: Codes = field(repr=False)  # Faiss's empty index
    built_rows: int
    nprobe: int = 1
    recall: dict[str, float] = field(default_factory=dict)
    reached: float = 0.0  # that recall, of its worst direction, less what another sample of queries may fall short


def lists_for(rows: int) -> int:
    """How many lists: about 2 * sqrt(rows), where building (more work with more) and scanning (less) both stay low."""
    return 1 << max(0, round(math.log2(2 * math.sqrt(max(rows, 1)))))


def sample_size(rows: int) -> int:
    """How many of the rows training wants to see."""
    return min(rows, _POINTS_A_LIST * lists_for(rows))


def better_centroids(centroids: Vector | None, sample: Vector, lists: int) -> Vector:
    """(lists, 512): one round of k-means (Lloyd 1982), from `centroids`, at first from rows of the sample."""
    clustering = faiss.Clustering(DIMENSION, lists)
    clustering.niter, clustering.seed, clustering.min_points_per_centroid = 1, 1, 1
    clustering.max_points_per_centroid = _POINTS_A_LIST
    if centroids is not None:
        faiss.copy_array_to_vector(centroids.ravel(), clustering.centroids)
    clustering.train(sample, faiss.IndexFlatL2(DIMENSION))
    better: Vector = faiss.vector_to_array(clustering.centroids).reshape(lists, DIMENSION)
    return better


def _means(centroids: Vector, sample: Vector) -> Vector:
    """(lists, 512) the mean of the rows nearest to each centroid, none where they are few or nearly the same.

    Centroids stay in memory and in snapshots when contents are erased: none may be, or nearly be, a single vector.
    """
    index = faiss.IndexFlatL2(DIMENSION)
    index.add(centroids)
    nearest = index.search(sample, 1)[1][:, 0]
    order = np.argsort(nearest)
    _, starts, counts = np.unique(nearest[order], return_index=True, return_counts=True)
    means = (np.add.reduceat(sample[order], starts, axis=0) / counts[:, np.newaxis]).astype(np.float32)
    apart = np.minimum.reduceat(_distances(sample[order], np.repeat(np.arange(len(means)), counts), means), starts)
    fit = (counts >= _LEAST_POINTS_A_LIST) & (apart >= _NEAR)
    return np.ascontiguousarray(means[fit]) if fit.any() else _mean(sample)


def _mean(sample: Vector) -> Vector:
    """(1, 512); (0, 512) where it nearly is a vector of the sample."""
    mean: Vector = sample.mean(axis=0, keepdims=True)
    return mean if _distances(sample, np.zeros(len(sample), np.int64), mean).min() >= _NEAR else mean[:0]


def _distances(rows: Vector, of: Rows, means: Vector) -> Vector:
    """Squared, of each row to its mean; a page at a time, for a sample is large."""
    distances = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), _ROWS_A_PAGE):
        page = slice(first, first + _ROWS_A_PAGE)
        difference = rows[page] - means[of[page]]
        distances[page] = np.einsum("rd,rd->r", difference, difference)
    return distances


def train(centroids: Vector, sample: Vector, rows: int) -> Trained | None:
    """For an index of so many rows, with a list for each centroid that a few rows of the sample are nearest to.

    The rows of the sample are distinct. None where they are fewer than LEAST_ROWS, or all nearly the same.
    """
    centroids = _means(centroids, sample) if len(sample) >= LEAST_ROWS and len(_mean(sample)) else centroids[:0]
    if not len(centroids):
        return None
    # Squared distance, although scores are inner products: an image belongs to the images it is like.
    quantizer = faiss.IndexFlatL2(DIMENSION)
    quantizer.add(centroids)
    bits, score = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(quantizer, DIMENSION, len(centroids), bits, score, False)
    # Not from the least to the greatest value: where one vector lies apart, those are its own.
    index.sq.rangestat, index.sq.rangestat_arg = faiss.ScalarQuantizer.RS_meanstd, _DEVIATIONS
    index.train(sample)
    return Trained(faiss.serialize_index(index), rows)
