"""Unit vectors in memory by row number, of which a query is compared with a small and likely part.

An inverted file (Sivic and Zisserman 2003; Jégou et al. 2011): every row is in the list of its nearest of `lists`
centroids. A query scans the `nprobe` lists nearest to it on 8-bit codes (SQ8), and the best it meets are compared
anew with the float16 rows, so that order and scores are those of an exact float16 search among the rows met.
"""

from __future__ import annotations

import math
from typing import Literal

import faiss
import numpy as np
import numpy.typing as npt

from ..archive.content import DIMENSION, Vector
from .exact import Codes, DType, ExactVectors, Rows, Scores, selector

_POINTS_A_LIST = 40  # what k-means learns a centroid from; Faiss advises 39 to 256, and the cost grows with it
_CANDIDATES_A_RESULT = 4
_LEAST_POINTS_A_LIST = 5
Lists = npt.NDArray[np.int64]


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
    """The mean of the rows nearest to each centroid, none where they are few.

    Centroids stay in memory and in snapshots when contents are erased: none may be, or nearly be, a single vector.
    """
    index = faiss.IndexFlatL2(DIMENSION)
    index.add(centroids)
    nearest = index.search(sample, 1)[1][:, 0]
    order = np.argsort(nearest)
    _, starts, counts = np.unique(nearest[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(sample[order], starts, axis=0)
    means = (sums / counts[:, np.newaxis]).astype(np.float32)
    enough = counts >= _LEAST_POINTS_A_LIST
    return np.ascontiguousarray(means[enough]) if enough.any() else sample.mean(axis=0, keepdims=True)


class ApproximateVectors:
    """float16 rows and the inverted lists that find the likely ones; every row is in exactly one list, once."""

    kind: Literal["approximate"] = "approximate"
    dtype: DType = "float16"

    def __init__(self, index: faiss.IndexIVFScalarQuantizer) -> None:
        """`index` is trained and empty."""
        self.state: Codes = faiss.serialize_index(index)  # all that training learned
        self._index = index
        self._inverted = faiss.downcast_InvertedLists(index.invlists)
        self._centroids = index.quantizer
        self._rows = ExactVectors("float16")
        self._refined = faiss.IndexRefine(index, self._rows.index)
        self._sizes = np.zeros(index.nlist, np.int64)  # of the lists
        self._list_of = np.empty(1024, np.int32)  # of these two only the first len(self) count
        self._offset_of = np.empty(1024, np.int32)
        self.nprobe = 1
        self.recall: dict[str, float] = {}
        self.built_rows = 0
        self.removed = 0  # since it was built

    @classmethod
    def train(cls, centroids: Vector, sample: Vector, rows: int) -> ApproximateVectors:
        """An empty index with a list for each centroid, its codes fitted to a sample of its future `rows` rows."""
        centroids = _means(centroids, sample)
        # Squared distance, although scores are inner products: an image belongs to the images it is like.
        quantizer = faiss.IndexFlatL2(DIMENSION)
        quantizer.add(centroids)
        bits, score = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexIVFScalarQuantizer(quantizer, DIMENSION, len(centroids), bits, score, False)
        index.train(sample)
        vectors = cls(index)
        vectors.built_rows = rows
        return vectors

    @classmethod
    def from_state(cls, state: Codes) -> ApproximateVectors:
        """An empty index trained as that one was whose `state` this is."""
        return cls(faiss.deserialize_index(state))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lists(self) -> int:
        """How many lists there are to probe."""
        return int(self._index.nlist)

    @property
    def memory_bytes(self) -> int:
        """Of rows, codes and their bookkeeping; what Faiss keeps in reserve not counted."""
        row_bytes = int(self._index.code_size) + 8 + 8  # its number in the list, and where that is
        return len(self) * row_bytes + self._rows.memory_bytes + self.lists * DIMENSION * 4

    def codes(self) -> Codes:
        """(rows, 1024) view of the float16 rows, valid until the next change of their number."""
        return self._rows.codes()

    def list_of(self, rows: Rows) -> npt.NDArray[np.int32]:
        """The list each of these rows is in."""
        return self._list_of[rows]

    def read(self, rows: Rows) -> Vector:
        """(len(rows), 512) float32 copy."""
        return self._rows.read(rows)

    def reserve(self, rows: int) -> None:
        """Take the memory for so many rows at once; the index is empty."""
        self._rows.reserve(rows)

    def append(self, vectors: Vector) -> None:
        """Add rows at the end."""
        first = len(self)
        self._rows.append(vectors)
        self._enter(np.arange(first, len(self)), vectors, None)

    def append_codes(self, codes: Codes, lists: Lists) -> None:
        """Add rows at the end that `codes` of an index of the same state had, and `list_of`."""
        first = len(self)
        self._rows.append_codes(codes)
        rows = np.arange(first, len(self))
        self._enter(rows, self._rows.read(rows), lists)

    def overwrite(self, row: int, vector: Vector) -> None:
        """Put another vector in a row's place."""
        self._leave(row)
        self._rows.overwrite(row, vector)
        self._enter(np.array([row]), vector.reshape(1, -1), None)

    def remove(self, row: int) -> None:
        """Move the last row into the freed one: the cost does not grow with the index."""
        last = len(self) - 1
        self._leave(row)
        if row != last:
            number, offset = int(self._list_of[last]), int(self._offset_of[last])
            self._ids(number)[offset] = row
            self._list_of[row], self._offset_of[row] = number, offset
        self._rows.remove(row)
        self.removed += 1

    def release(self) -> None:
        """Give its memory back as `ExactVectors.release` does; of no use afterwards."""
        self._rows.release()
        self._index.replace_invlists(None, False)

    def _enter(self, rows: Rows, vectors: Vector, lists: Lists | None) -> None:
        while len(self) > len(self._list_of):
            self._list_of = np.concatenate([self._list_of, np.empty_like(self._list_of)])
            self._offset_of = np.concatenate([self._offset_of, np.empty_like(self._offset_of)])
        if lists is None:
            lists = self.probed(vectors, 1)[:, 0]
        vectors, lists = np.ascontiguousarray(vectors), np.ascontiguousarray(lists)
        order = np.argsort(lists, kind="stable")  # within a list, Faiss appends in the order given
        numbers, starts, counts = np.unique(lists[order], return_index=True, return_counts=True)
        offsets = np.arange(len(rows)) + np.repeat(self._sizes[numbers] - starts, counts)
        self._sizes[numbers] += counts
        self._list_of[rows] = lists
        self._offset_of[rows[order]] = offsets
        pointers = [faiss.swig_ptr(each) for each in (vectors, rows, lists)]
        self._index.add_core(len(rows), *pointers)

    def _leave(self, row: int) -> None:
        number, offset = int(self._list_of[row]), int(self._offset_of[row])
        ids = self._ids(number)
        end = len(ids) - 1
        memory = faiss.rev_swig_ptr(self._inverted.get_codes(number), len(ids) * self._index.code_size)
        codes = memory.reshape(len(ids), -1)
        ids[offset], codes[offset] = ids[end], codes[end]
        self._offset_of[ids[offset]] = offset
        codes[end] = 0  # erased means gone from memory, too
        self._inverted.resize(number, end)
        self._sizes[number] = end
        self._index.ntotal -= 1

    def _ids(self, number: int) -> Rows:
        view: Rows = faiss.rev_swig_ptr(self._inverted.get_ids(number), self._inverted.list_size(number))
        return view

    def probed(self, queries: Vector, nprobe: int) -> Lists:
        """(queries, nprobe) the lists that searches look into, the nearest first."""
        lists: Lists = self._centroids.search(queries, nprobe)[1]
        return lists

    def candidates(self, queries: Vector, k: int, nprobe: int) -> Rows:
        """(queries, more than k) rows whose float16 scores a search for k would look at; -1 where there are no more."""
        parameters = faiss.SearchParametersIVF(nprobe=nprobe)
        rows: Rows
        _, rows = self._index.search(queries, k * _CANDIDATES_A_RESULT, params=parameters)
        return rows

    def search(self, queries: Vector, k: int) -> tuple[Scores, Rows]:
        """(queries, k) the best rows met, best first; row -1 where fewer were met."""
        return self._search(queries, k, faiss.SearchParametersIVF(nprobe=self.nprobe))

    def search_among(self, query: Vector, k: int, allowed: npt.NDArray[np.bool_] | None) -> tuple[Scores, Rows]:
        """The k best of the allowed rows met, and where fewer were met, exactly the k best."""
        if allowed is not None:
            parameters = faiss.SearchParametersIVF(nprobe=self.nprobe, sel=selector(allowed))
            scores, rows = self._search(query.reshape(1, -1), k, parameters)
            if rows[0, -1] >= 0:
                return scores[0], rows[0]
        return self._rows.search_among(query, k, allowed)

    def _search(self, queries: Vector, k: int, parameters: faiss.SearchParametersIVF) -> tuple[Scores, Rows]:
        # One query has its lists shared out over the cores, several share the cores among themselves.
        self._index.parallel_mode = 1 if len(queries) == 1 else 0
        refine = faiss.IndexRefineSearchParameters(k_factor=_CANDIDATES_A_RESULT, base_index_params=parameters)
        self._refined.ntotal = len(self)
        scores, rows = self._refined.search(queries, k, params=refine)
        return scores, rows
