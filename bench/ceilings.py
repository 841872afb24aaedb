"""What this machine can do at most, measured now: multiplications and memory reads, on all cores of the process."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_TRIES = 6


class Ceilings:
    """The roofs of https://doi.org/10.1145/1498765.1498785 (Williams et al., the roofline model), best of six tries."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._matrix = torch.randn(2048, 2048)
        self._memory = torch.ones(64 << 20)  # fits no cache

    def flops_per_s(self) -> float:
        """Of a float32 matrix product."""
        return 2 * len(self._matrix) ** 3 / _best_s(lambda: self._matrix @ self._matrix)

    def bytes_per_s(self) -> float:
        """Read from memory, to be summed."""
        return 4 * self._memory.numel() / _best_s(self._memory.sum)


def _best_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
