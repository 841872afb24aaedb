"""A safetensors file as arrays that are views of the file: nothing is copied, and nothing stays in memory unused."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt


class MappedWeights:
    """float32 tensors by name, mapped privately: readers of one file share its pages.

    The format: https://github.com/huggingface/safetensors#format. The library itself would copy each tensor.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        header_bytes = int.from_bytes(self._map[:8], "little")
        self._start = 8 + header_bytes
        self._header = json.loads(self._map[8 : self._start])

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """The view of one tensor. Raises KeyError, or TypeError when it is not of float32."""
        entry = self._header[name]
        if entry["dtype"] != "F32":
            raise TypeError(f"{name} is of {entry['dtype']}, not of F32: build the archive anew (make mar)")
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(self._map, "<f4", (end - begin) // 4, self._start + begin)
        return flat.reshape(entry["shape"])

    def release(self) -> None:
        """Give the pages back to the system; a view that is read again reads them from the file again."""
        self._map.madvise(mmap.MADV_DONTNEED)
