"""The picture of what growth costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_KINDS = {  # of a curve: its name, and where its latency and its memory are
    "exact float32": ("float32_p50_ms", "float32_bytes"),
    "exact float16": ("float16_p50_ms", "float16_bytes"),
    "approximate, recall@10 ≥ 0.95": ("approximate_p50_ms", "approximate_bytes"),
    "one Qdrant node, over HTTP": ("qdrant_p50_ms", "qdrant_bytes"),
}


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Latency of one query and memory against the number of images, both axes logarithmic."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    latency, memory = figure.subplots(1, 2)
    for kind, (milliseconds, size) in _KINDS.items():
        _curve(latency, results, kind, milliseconds, 1)
        _curve(memory, results, kind, size, 1e-6)
    _curve(latency, results, "memory-bandwidth floor of float32", "floor_ms", 1, style=":")
    latency.set_title("one text→image query, k = 10, p50")
    latency.set_ylabel("ms")
    memory.set_title("memory of the vectors")
    memory.set_ylabel("MB")
    for axes in (latency, memory):
        axes.set(xscale="log", yscale="log", xlabel="images in the index")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _curve(axes: Axes, results: list[dict[str, Any]], label: str, name: str, unit: float, style: str = "o-") -> None:
    points = [(figures["rows"], figures[name] * unit) for figures in results if name in figures]
    if points:
        axes.plot(*zip(*points, strict=True), style, label=label)
