"""Unit vectors in memory by row number, compared one and all with a query."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from ..archive.content import DIMENSION, Vector
from .allowed import Among
from .memory import GrowingMemory
from .rows import MARGIN, SLACK, Codes, Lists, Rows, Scores

DType = Literal["float32", "float16"]

_T = TypeVar("_T")
_PRODUCTS_A_PART = 16384  # of a row and a query: fewer cost less than handing them to another thread
_ROWS_A_BLOCK = 4096
_GATHERED = 256  # float16 rows, so that they stay in a core's cache
_BLOCKS_FROM_QUERIES = 8
_GAPS_HALF = 8  # float16 rows with wider gaps are gathered: to pass over the others would take longer
_GAPS = 2  # rows that lie together are read twice as fast as rows with gaps between them

# By default Faiss takes the matrix product (BLAS) only from 250 queries on; it pays from three.
faiss.cvar.distance_compute_blas_threshold = 3 * DIMENSION

# A search is shared out over these, one for each core, none of which waits for another: Faiss alone would compare one
# query with all rows on a single core. How many threads OpenMP takes is a property of the thread that asks it.
_THREADS: int = faiss.omp_get_max_threads()
_workers = ThreadPoolExecutor(_THREADS, "index-search", initializer=faiss.omp_set_num_threads, initargs=(1,))


class ExactVectors:
    """Rows of float32 or float16, which Faiss reads. Scores are of the kept values: float16 is off by up to 2e-4."""

    kind: Literal["exact"] = "exact"
    complete = True  # a search finds all of the k best
    outgrown = True  # once there are too many rows for it
    trained = None
    unsaved = 0
    nprobe = None
    recall = None

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        if dtype == "float32":
            self.index = faiss.IndexFlatIP(DIMENSION)
        else:
            half = faiss.ScalarQuantizer.QT_fp16
            self.index = faiss.IndexScalarQuantizer(DIMENSION, half, faiss.METRIC_INNER_PRODUCT)
        self._memory = GrowingMemory()
        self.index.codes.is_owned = False
        self._hold(0)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def memory_bytes(self) -> int:
        """Of the rows; what is kept in reserve for the next ones not counted."""
        return len(self) * int(self.index.code_size)

    def memory(self) -> list[Codes]:
        """Views of all memory that holds rows, valid until the next change of its size."""
        return [self._codes()]

    def _codes(self) -> Codes:
        size = int(self.index.code_size)
        view: Codes = faiss.rev_swig_ptr(self.index.codes.data(), len(self) * size)
        return view.reshape(len(self), size)

    def read(self, rows: Rows) -> Vector:
        """(len(rows), 512) float32 copy."""
        vectors: Vector = self.index.sa_decode(self._codes()[rows])
        return vectors

    def append(self, vectors: Vector, lists: Lists | None = None) -> None:
        """Add rows at the end; there are no lists here."""
        first = len(self)
        self._hold(first + len(vectors))
        self.index.sa_encode(np.ascontiguousarray(vectors), self._codes()[first:])

    def _hold(self, rows: int) -> None:
        """Have so many rows, of which those that are new hold nothing yet."""
        size = rows * int(self.index.code_size)
        codes = self.index.codes
        codes.c_ptr, codes.c_size = self._memory.holding(size), size
        self.index.ntotal = rows

    def overwrite(self, row: int, vector: Vector) -> None:
        """Put another vector in a row's place."""
        self._codes()[row] = self.index.sa_encode(vector.reshape(1, -1))

    def remove(self, row: int) -> None:
        """Move the last row into the freed one: the cost does not grow with the index."""
        last = len(self) - 1
        codes = self._codes()
        codes[row] = codes[last]
        codes[last] = 0  # erased means gone from memory, too
        self._hold(last)

    def release(self) -> None:
        """Empty it and give its memory back; of no use afterwards."""
        self._hold(0)
        self._memory.release()

    def scores(self, query: Vector, rows: Rows) -> npt.NDArray[np.float64]:
        """Of each row the cosine in float64, rounded to 1e-6: the same whatever else is asked for at that moment."""
        blocks = [rows[first : first + _ROWS_A_BLOCK] for first in range(0, len(rows), _ROWS_A_BLOCK)]
        exact = [self.read(block).astype(np.float64) @ query.astype(np.float64) for block in blocks]
        rounded: npt.NDArray[np.float64] = np.minimum(np.round(np.concatenate([np.empty(0), *exact]), 6) + 0.0, 1.0)
        return rounded

    def search(self, queries: Vector, k: int) -> tuple[Scores, Rows]:
        """(queries, k) the best rows of each query, best first; k is at most the number of rows."""
        best = BestRows(len(queries), k)
        shared = _shared(len(self), len(queries), lambda first, end: self._search_part(queries, k, first, end))
        for scores, rows in shared:
            best.merge(scores, rows)
        return best.take()

    def _search_part(self, queries: Vector, k: int, first: int, end: int) -> tuple[Scores, Rows]:
        """The best of the rows from `first` to before `end`."""
        codes = self._codes()
        best = BestRows(len(queries), min(k, end - first))
        if self.dtype == "float32":
            best.add(queries, codes[first:end].view(np.float32), first)
        elif len(queries) < _BLOCKS_FROM_QUERIES:
            part = faiss.SearchParameters(sel=faiss.IDSelectorRange(first, end))
            best.merge(*self.index.search(queries, min(k, end - first), params=part))
        else:
            # Faiss decodes a float16 row anew for every query; here it is decoded once, for a matrix product.
            block = np.empty((_ROWS_A_BLOCK, DIMENSION), np.float32)
            for start in range(first, end, _ROWS_A_BLOCK):
                part = codes[start : min(start + _ROWS_A_BLOCK, end)]
                self.index.sa_decode(part, block[: len(part)])
                best.add(queries, block[: len(part)], start)
        return best.take()

    def search_among(self, query: Vector, k: int, among: Among | None) -> Rows:
        """In one pass the k best of the allowed rows, or of all, and what may score like the last of them, unordered.

        At least k rows are allowed. All cores share the allowed rows; the others are not looked at.
        """
        rows = np.arange(len(self)) if among is None else among.rows
        query = np.ascontiguousarray(query)

        def part(first: int, end: int) -> tuple[Scores, Rows]:
            mine = rows[first:end]
            if self.dtype == "float32":
                return _near_best(self._products(query, mine), mine, k)
            span = int(mine[-1] - mine[0]) + 1
            if span > len(mine) * _GAPS_HALF:
                return _near_best(self._products_half(query, mine), mine, k)
            return self._near_best_half(query, k, int(mine[0]), span, None if among is None else among.bits(len(self)))

        scores, found = zip(*_shared(len(rows), 1, part), strict=True)
        return _near_best(np.concatenate(scores), np.concatenate(found), k)[1]

    def _products(self, query: Vector, rows: Rows) -> Scores:
        """Of the query with each of these rows, which ascend and are float32, on one core."""
        vectors, pointer = self._codes().view(np.float32), faiss.swig_ptr
        first, span = int(rows[0]), int(rows[-1] - rows[0]) + 1
        if span <= len(rows) * _GAPS:
            products = np.empty(span, np.float32)
            near = vectors[first : first + span]
            faiss.fvec_inner_products_ny(pointer(products), pointer(query), pointer(near), DIMENSION, span)
            return products[rows - first]
        products = np.empty(len(rows), np.float32)
        faiss.fvec_inner_products_by_idx(
            pointer(products), pointer(query), pointer(vectors), pointer(rows), DIMENSION, 1, len(rows)
        )
        return products

    def _products_half(self, query: Vector, rows: Rows) -> Scores:
        """Of the query with each of these float16 rows, on one core: Faiss looks only at those of an index."""
        products, codes = np.empty(len(rows), np.float32), self._codes()
        block = faiss.IndexScalarQuantizer(DIMENSION, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        block.codes.resize(_GATHERED * block.code_size)
        memory = faiss.rev_swig_ptr(block.codes.data(), _GATHERED * block.code_size).reshape(_GATHERED, -1)
        for first in range(0, len(rows), _GATHERED):
            some = rows[first : first + _GATHERED]
            np.take(codes, some, axis=0, out=memory[: len(some)], mode="clip")
            block.ntotal = len(some)
            scores, places = block.search(query.reshape(1, -1), len(some))
            products[first + places[0]] = scores[0]
        return products

    def _near_best_half(
        self, query: Vector, k: int, first: int, span: int, packed: npt.NDArray[np.uint8] | None
    ) -> tuple[Scores, Rows]:
        """Of the allowed ones of `span` rows from `first` on: Faiss compares float16 without decoding it."""
        end = first + span
        selector = within = faiss.IDSelectorRange(first, end)
        if packed is not None:
            allowed = faiss.IDSelectorBitmap(packed)
            selector = faiss.IDSelectorAnd(within, allowed)
        fetch = min(k + SLACK, end - first)
        while True:  # until the last that is fetched cannot score like the k-th
            found = self.index.search(query.reshape(1, -1), fetch, params=faiss.SearchParameters(sel=selector))
            scores, rows = found[0][0], found[1][0]
            if fetch == end - first or rows[-1] < 0 or scores[-1] < scores[k - 1] - MARGIN:
                return _near_best(scores[rows >= 0], rows[rows >= 0], k)
            fetch = min(fetch * 8, end - first)


def _shared(rows: int, queries: int, work: Callable[[int, int], _T]) -> list[_T]:
    """What `work` gives for each part of the rows, from a first to before an end, all parts on cores of their own."""
    parts = max(1, min(_THREADS, rows, rows * queries // _PRODUCTS_A_PART))
    ends = [rows * number // parts for number in range(parts + 1)]
    return list(_workers.map(work, ends, ends[1:]))


def _near_best(scores: Scores, rows: Rows, k: int) -> tuple[Scores, Rows]:
    """The k best of these and all that may score like the last of them."""
    if len(rows) <= k:
        return scores, rows
    least = np.partition(scores, len(rows) - k)[len(rows) - k]
    near = scores >= least - MARGIN
    return scores[near], rows[near]


class BestRows:
    """The k best rows of each query, out of blocks of rows that come one after the other."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._heap = faiss.ResultHeap(queries, k, keep_max=True)
        self._heap.I[:] = -1

    def add(self, queries: Vector, block: Vector, first: int) -> None:
        """Compare the queries with the rows `first`, `first` + 1, ... that `block` holds."""
        scores, rows = faiss.knn(queries, block, min(self._k, len(block)), faiss.METRIC_INNER_PRODUCT)
        self.merge(scores, rows + first)

    def merge(self, scores: Scores, rows: Rows) -> None:
        """Rows that others found, with their scores."""
        self._heap.add_result(scores, rows)

    def take(self) -> tuple[Scores, Rows]:
        """(queries, k), best first; row -1 where there were not so many."""
        self._heap.finalize()
        return self._heap.D, self._heap.I
