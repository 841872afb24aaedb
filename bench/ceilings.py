"""What this machine can do at most, measured now: multiplications and memory reads, on all cores of the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ceilings:
    """The roofs of https://doi.org/10.1145/1498765.1498785 (Williams et al., the roofline model)."""

    sgemm_flops_per_s: float
    read_bytes_per_s: float


def measure(threads: int) -> Ceilings:
    """The best of several tries each: float32 matrix products, and sums over memory that fits no cache."""
    torch.set_num_threads(threads)
    side = 2048
    one, other = torch.randn(side, side), torch.randn(side, side)
    memory = torch.ones(64 << 20)
    return Ceilings(2 * side**3 / _best_s(lambda: one @ other, 12), 4 * memory.numel() / _best_s(memory.sum, 12))


def _best_s(work: Callable[[], object], tries: int) -> float:
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
