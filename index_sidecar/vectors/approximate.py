"""Unit vectors in memory by row number, of which a query is compared with a small and likely part.

An inverted file (Sivic and Zisserman 2003; Jégou et al. 2011): every row is in the list of its nearest of `lists`
centroids. A query scans the `nprobe` lists nearest to it on 8-bit codes (SQ8), and the best it meets are compared
anew with the float16 rows, so that order and scores are those of an exact float16 search among the rows met.
"""

from __future__ import annotations

from typing import Literal

import faiss
import numpy as np
import numpy.typing as npt

from ..archive.content import DIMENSION, Vector
from .allowed import COMPARED_EXACTLY, Among
from .exact import DType, ExactVectors
from .rows import Codes, Lists, Rows, Scores, with_room
from .training import Trained

_CANDIDATES_A_RESULT = 4
_GROWTH = 2
_WORK = 1.9  # of a search among some rows, beside that of a search of everything
_LEAST_WORK = 10_000  # in codes compared: half a millisecond
_MET_A_RESULT = 16
_REMOVED_PART = 0.2


class ApproximateVectors:
    """float16 rows and the inverted lists that find the likely ones; every row is in exactly one list, once."""

    kind: Literal["approximate"] = "approximate"
    complete = False
    dtype: DType = "float16"

    def __init__(self, trained: Trained) -> None:
        """Without rows. Raises RuntimeError or ValueError when this is not what `train` gives."""
        index = faiss.deserialize_index(trained.state)
        if not isinstance(index, faiss.IndexIVFScalarQuantizer) or index.d != DIMENSION or index.ntotal:
            raise ValueError("its state is of another kind of index")
        self.trained = trained
        self._index = index
        self._inverted = faiss.downcast_InvertedLists(index.invlists)
        self._centroids = index.quantizer
        self._rows = ExactVectors("float16")
        self._refined = faiss.IndexRefine(index, self._rows.index)
        self._sizes = np.zeros(index.nlist, np.int64)  # of the lists
        self._list_of = np.empty(1024, np.int32)  # of these two only the first len(self) count
        self._offset_of = np.empty(1024, np.int32)
        self.removed = 0  # since it was built
        self.unsaved = 0  # rows that were put in or taken out since the last snapshot

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nprobe(self) -> int:
        """How many lists a search looks into."""
        return self.trained.nprobe

    @property
    def recall(self) -> dict[str, float]:
        """Recall@10 by direction, as it was measured when the index was built."""
        return self.trained.recall

    @property
    def outgrown(self) -> bool:
        """Whether it has grown or lost so much that it should be built anew."""
        built_rows = self.trained.built_rows
        return len(self) >= _GROWTH * built_rows or self.removed >= _REMOVED_PART * built_rows

    @property
    def lists(self) -> int:
        """How many lists there are to probe."""
        return int(self._index.nlist)

    @property
    def memory_bytes(self) -> int:
        """Of rows, codes and their bookkeeping; what Faiss keeps in reserve not counted."""
        row_bytes = int(self._index.code_size) + 8 + 8  # its number in the list, and where that is
        return len(self) * row_bytes + self._rows.memory_bytes + self.lists * DIMENSION * 4

    def memory(self) -> list[Codes]:
        """Views of all memory that holds rows or codes, valid until the next change of its size."""
        codes = [self._codes(number) for number in range(self.lists)]
        return [*self._rows.memory(), *(each for each in codes if len(each))]

    def list_of(self, rows: Rows) -> npt.NDArray[np.int32]:
        """The list each of these rows is in."""
        return self._list_of[rows]

    def read(self, rows: Rows) -> Vector:
        """(len(rows), 512) float32 copy."""
        return self._rows.read(rows)

    def scores(self, query: Vector, rows: Rows) -> npt.NDArray[np.float64]:
        """As `ExactVectors.scores`, of the float16 rows."""
        return self._rows.scores(query, rows)

    def append(self, vectors: Vector, lists: Lists | None = None) -> None:
        """Add rows at the end; `lists`, as far as known (-1 where not), spares the search for the nearest centroid."""
        first = len(self)
        self._rows.append(vectors)
        self._enter(np.arange(first, len(self)), vectors, lists)

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
        self.unsaved += 1

    def release(self) -> None:
        """Give its memory back as `ExactVectors.release` does; of no use afterwards."""
        self._rows.release()
        self._index.replace_invlists(None, False)

    def _enter(self, rows: Rows, vectors: Vector, lists: Lists | None) -> None:
        self._list_of = with_room(self._list_of, len(self))
        self._offset_of = with_room(self._offset_of, len(self))
        vectors = np.ascontiguousarray(vectors)
        lists = np.full(len(rows), -1) if lists is None else lists
        unknown = np.flatnonzero(lists < 0)
        if len(unknown):
            lists[unknown] = self.probed(vectors[unknown], 1)[:, 0]
        self.unsaved += len(unknown)
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
        codes = self._codes(number)
        ids[offset], codes[offset] = ids[end], codes[end]
        self._offset_of[ids[offset]] = offset
        codes[end] = 0  # erased means gone from memory, too
        self._inverted.resize(number, end)
        self._sizes[number] = end
        self._index.ntotal -= 1

    def _ids(self, number: int) -> Rows:
        view: Rows = faiss.rev_swig_ptr(self._inverted.get_ids(number), self._inverted.list_size(number))
        return view

    def _codes(self, number: int) -> Codes:
        size = self._inverted.list_size(number)
        if not size:
            return np.empty((0, self._index.code_size), np.uint8)
        memory: Codes = faiss.rev_swig_ptr(self._inverted.get_codes(number), size * self._index.code_size)
        return memory.reshape(size, -1)

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

    def search_among(self, query: Vector, k: int, among: Among | None) -> Rows:
        """The k best of the allowed rows met, and where fewer were met, or comparing all is no more work, of all.

        Lists without any allowed row cost nothing and do not count. So of rows in one corner of the space, however far
        from the query, it looks into as many lists as a search of everything does of all: until it has done _WORK times
        as much as that. The fewer rows of a list are allowed, the less work it is, and the wider is the search.
        """
        if among is None:
            return self._rows.search_among(query, k, None)
        work = max(_WORK * self.nprobe * len(self) / self.lists, _LEAST_WORK)
        if len(among) * COMPARED_EXACTLY > work:
            rows = self._nearest_allowed(query, k, among, work)
            if len(rows) >= k:
                return rows
        return self._rows.search_among(query, k, among)

    def _nearest_allowed(self, query: Vector, k: int, among: Among, work: float) -> Rows:
        """The best by their codes in the nearest lists with allowed rows that so much work is enough for."""
        counts, costs = among.of_lists(self._list_of, self._sizes)
        lists = self.probed(query.reshape(1, -1), self.lists)[0]
        lists = lists[counts[lists] > 0]
        spent, met = np.cumsum(costs[lists]), np.cumsum(counts[lists])
        lists = lists[: 1 + max(np.searchsorted(spent, work), np.searchsorted(met, k * _MET_A_RESULT))]
        bitmap = faiss.IDSelectorBitmap(among.bits(len(self)))
        parameters = faiss.SearchParametersIVF(nprobe=len(lists), sel=bitmap)
        self._index.parallel_mode = 1
        query, nearness = np.ascontiguousarray(query), np.zeros(len(lists), np.float32)  # which the scores do without
        most = k * _CANDIDATES_A_RESULT
        scores, rows = np.empty(most, np.float32), np.empty(most, np.int64)
        asked, found = [[faiss.swig_ptr(each) for each in some] for some in ((lists, nearness), (scores, rows))]
        # The wrapper for arrays takes no parameters here.
        self._index.search_preassigned_c(1, faiss.swig_ptr(query), most, *asked, *found, False, parameters)
        return rows[rows >= 0]

    def _search(self, queries: Vector, k: int, parameters: faiss.SearchParametersIVF) -> tuple[Scores, Rows]:
        # One query has its lists shared out over the cores, several share the cores among themselves.
        self._index.parallel_mode = 1 if len(queries) == 1 else 0
        refine = faiss.IndexRefineSearchParameters(k_factor=_CANDIDATES_A_RESULT, base_index_params=parameters)
        self._refined.ntotal = len(self)
        scores, rows = self._refined.search(queries, k, params=refine)
        return scores, rows
