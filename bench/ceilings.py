"""What this machine can do at most, measured now: multiplications and memory reads, on all cores of the process."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op

_TRIES = 6
_SIDE = 2048
_SLOW_S = 0.01  # for a product of 256 x 256: PyTorch takes this long in fp16 where the CPU has none, and is no ceiling
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # PyTorch has no int8 product


class Ceilings:
    """The roofs of https://doi.org/10.1145/1498765.1498785 (Williams et al., the roofline model), best of six tries.

    The roof of multiplications is the fastest of the libraries here, OpenVINO and PyTorch: either alone may be half of
    what a CPU does. They take turns, so that the machine's drift is no library's advantage.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self._memory = torch.ones(64 << 20)  # fits no cache
        self._products: dict[str, dict[str, Callable[[], object]]] = {}
        self.libraries: dict[str, str] = {}  # of each precision, the one that was fastest last

    def flops_per_s(self, precision: str = "fp32") -> float:
        """Of a matrix product in this precision; int8 is of weights, as ours, and the library chooses the rest."""
        if precision not in self._products:
            self._products[precision] = self._open(precision)
            for product in self._products[precision].values():
                _seconds(product, 2)
        products = self._products[precision]
        best = dict.fromkeys(products, float("inf"))
        for turn in range(_TRIES):
            for name in sorted(products, reverse=bool(turn % 2)):
                best[name] = min(best[name], _seconds(products[name], 1))
        self.libraries[precision] = min(best, key=lambda name: best[name])
        return 2 * _SIDE**3 / min(best.values())

    def bytes_per_s(self) -> float:
        """Read from memory, to be summed."""
        return 4 * self._memory.numel() / min(_seconds(self._memory.sum, 1) for _ in range(_TRIES))

    def _open(self, precision: str) -> dict[str, Callable[[], object]]:
        matrix = np.random.default_rng(1).standard_normal((_SIDE, _SIDE), np.float32)
        products: dict[str, Callable[[], object]] = {}
        if precision in _DTYPES:
            tensor = torch.from_numpy(matrix).to(_DTYPES[precision])
            small = tensor[:256, :256].contiguous()
            if _seconds(lambda: small @ small, 3) < _SLOW_S:
                products["PyTorch"] = lambda: tensor @ tensor
        left = op.parameter([_SIDE, _SIDE], ov.Type.f32)
        right = op.constant(matrix)
        if precision == "int8":
            whole = op.constant((matrix * 25).clip(-127, 127).astype(np.int8))
            right = op.multiply(op.convert(whole, "f32"), op.constant(np.full((_SIDE, 1), 0.04, np.float32)))
        model = ov.Model([op.matmul(left, right, False, True)], [left], "product")
        options: dict[str, object] = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        options |= {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
        request.set_input_tensor(ov.Tensor(matrix))
        products["OpenVINO"] = request.infer
        return products


def _seconds(work: Callable[[], object], warm: int) -> float:
    """Of one run, the last of `warm`."""
    for _ in range(warm):
        started = time.perf_counter()
        work()
    return time.perf_counter() - started
