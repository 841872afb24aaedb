"""Unit vectors in memory by row number, compared one and all with a query."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import faiss
import numpy as np
import numpy.typing as npt

from ..archive.content import DIMENSION, Vector

DType = Literal["float32", "float16"]
Codes = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_PRODUCTS_A_PART = 16384  # of a row and a query: fewer cost less than handing them to another thread
_ROWS_A_BLOCK = 4096
_BLOCKS_FROM_QUERIES = 8
_ROUNDING = 1e-6  # of a score: Faiss adds up in another order for another kind of search

# By default Faiss takes the matrix product (BLAS) only from 250 queries on; it pays from three.
faiss.cvar.distance_compute_blas_threshold = 3 * DIMENSION

# A search is shared out over these, one for each core, none of which waits for another: Faiss alone would compare one
# query with all rows on a single core. How many threads OpenMP takes is a property of the thread that asks it.
_THREADS: int = faiss.omp_get_max_threads()
_workers = ThreadPoolExecutor(_THREADS, "index-search", initializer=faiss.omp_set_num_threads, initargs=(1,))


class ExactVectors:
    """Rows of float32 or float16, which Faiss holds. Scores are of the kept values: float16 is off by up to 2e-4."""

    kind: Literal["exact"] = "exact"
    nprobe = None
    recall = None

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        if dtype == "float32":
            self.index = faiss.IndexFlatIP(DIMENSION)
        else:
            half = faiss.ScalarQuantizer.QT_fp16
            self.index = faiss.IndexScalarQuantizer(DIMENSION, half, faiss.METRIC_INNER_PRODUCT)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def memory_bytes(self) -> int:
        """Of the rows; what Faiss keeps in reserve for the next ones not counted."""
        return len(self) * int(self.index.code_size)

    def codes(self) -> Codes:
        """(rows, bytes of a row) view of Faiss's own memory, valid until the next change of its size."""
        size = int(self.index.code_size)
        view: Codes = faiss.rev_swig_ptr(self.index.codes.data(), len(self) * size)
        return view.reshape(len(self), size)

    def read(self, rows: Rows) -> Vector:
        """(len(rows), 512) float32 copy."""
        vectors: Vector = self.index.sa_decode(self.codes()[rows])
        return vectors

    def reserve(self, rows: int) -> None:
        """Take the memory for so many rows at once; the index is empty."""
        self.index.codes.resize(rows * self.index.code_size)
        self.index.codes.resize(0)

    def append(self, vectors: Vector) -> None:
        """Add rows at the end."""
        self.index.add(np.ascontiguousarray(vectors))

    def append_codes(self, codes: Codes, lists: object = None) -> None:
        """Add rows at the end that `codes` of an index of the same dtype had; there are no lists here."""
        self.index.add_sa_codes(codes)

    def overwrite(self, row: int, vector: Vector) -> None:
        """Put another vector in a row's place."""
        self.codes()[row] = self.index.sa_encode(vector.reshape(1, -1))

    def remove(self, row: int) -> None:
        """Move the last row into the freed one: the cost does not grow with the index."""
        last = len(self) - 1
        codes = self.codes()
        codes[row] = codes[last]
        codes[last] = 0  # erased means gone from memory, too
        self.index.codes.resize(last * self.index.code_size)
        self.index.ntotal = last

    def release(self) -> None:
        """Empty it and give its memory back without the GIL, which Python's own destructor keeps: 160 ms at 1M rows."""
        self.index.reset()
        self.index.permute_entries(np.empty(0, np.int64))  # swaps the rows for a new and empty block, and frees them

    def search(self, queries: Vector, k: int) -> tuple[Scores, Rows]:
        """(queries, k) the best rows of each query, best first; k is at most the number of rows."""
        parts = max(1, min(_THREADS, len(self), len(self) * len(queries) // _PRODUCTS_A_PART))
        ends = [len(self) * number // parts for number in range(parts + 1)]
        found = _workers.map(lambda first, end: self._search_part(queries, k, first, end), ends, ends[1:])
        best = BestRows(len(queries), k)
        for scores, rows in found:
            best.merge(scores, rows)
        return best.take()

    def _search_part(self, queries: Vector, k: int, first: int, end: int) -> tuple[Scores, Rows]:
        """The best of the rows from `first` to before `end`."""
        codes = self.codes()
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

    def search_among(self, query: Vector, k: int, allowed: npt.NDArray[np.bool_] | None) -> tuple[Scores, Rows]:
        """In two passes the k best of the allowed rows and at least all that score like the last of them, unordered."""
        parameters = faiss.SearchParameters(sel=selector(allowed)) if allowed is not None else None
        query = query.reshape(1, -1)
        best, _ = self.index.search(query, k, params=parameters)
        radius = float(best[0, -1]) - _ROUNDING  # what is found is above it
        _, scores, rows = self.index.range_search(query, radius, params=parameters)
        return scores, rows


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


def selector(allowed: npt.NDArray[np.bool_]) -> faiss.IDSelectorBitmap:
    """What makes Faiss pass over all rows but the allowed ones."""
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
