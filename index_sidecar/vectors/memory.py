"""Memory for rows that grows without being copied.

Faiss keeps rows in a std::vector, which grows by copying them all to a piece twice as large. At a million rows that is
2 GB, for which every search waits for seconds, and three times the memory for a while; and what is erased stays in the
piece that was left. Here the kernel puts the same pages under other addresses (mremap).
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import faiss
import numpy as np

_LEAST_BYTES = 1 << 21
_GROWTH = 1.5  # of the addresses: memory is taken when it is first written to
_BYTES_A_STEP = 1 << 24


class GrowingMemory:
    """A piece of memory, all zeros where nothing was written yet."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, _LEAST_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # not every kernel has them
            self._map.madvise(mmap.MADV_HUGEPAGE)  # with which all rows are looked at in an eighth less time

    def holding(self, size_bytes: int) -> Any:
        """Where it begins, in the form that Faiss takes, with room for so much. Raises OSError when there is none.

        What this gave before is of no use from then on.
        """
        if size_bytes > len(self._map):
            self._map.resize(max(size_bytes, int(len(self._map) * _GROWTH)))
        return faiss.swig_ptr(np.frombuffer(self._map, np.uint8))

    def release(self) -> None:
        """Give it back in steps, for Python keeps the GIL in each; of no use afterwards."""
        for first in range(0, len(self._map), _BYTES_A_STEP):
            self._map.madvise(mmap.MADV_DONTNEED, first, min(_BYTES_A_STEP, len(self._map) - first))
        self._map.close()
