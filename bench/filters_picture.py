"""The picture of what filters cost and find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLOURS = {"spread": "tab:blue", "corner": "tab:green", "anti-corner": "tab:red"}


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Latency and recall against the part that passes; a column a size."""
    figure = Figure(figsize=(5 * len(results), 7), layout="constrained")
    columns = figure.subplots(2, len(results), squeeze=False).T
    for figures, (latency, recall) in zip(results, columns, strict=True):
        for case, colour in _COLOURS.items():
            _curve(latency, figures, case, "p50_ms", colour, f"{case}: filtered")
            _curve(latency, figures, case, "drop_p50_ms", colour, f"{case}: search all and drop", "s:")
            _curve(recall, figures, case, "recall", colour, f"{case}: filtered")
            _curve(recall, figures, case, "drop_recall", colour, f"{case}: search all and drop", "s:")
        latency.axhline(figures["unfiltered_p50_ms"], color="gray", label="no filter, approximate")
        latency.axhline(figures["exact_p50_ms"], color="black", label="no filter, exact float16")
        recall.axhline(0.95, color="gray", linewidth=0.8)
        latency.set(yscale="log", ylabel="p50, ms", title=f"{figures['rows']:,} images, k = 10")
        recall.set(ylabel="recall@10", xlabel="part that passes", ylim=(0, 1.02))
        for axes in (latency, recall):
            axes.set(xscale="log")
            axes.invert_xaxis()
            axes.grid(visible=True, which="major", alpha=0.3)
    columns[0][0].legend(fontsize="x-small")
    figure.savefig(path, dpi=110)


def _curve(
    axes: Axes, figures: dict[str, Any], case: str, name: str, colour: str, label: str, style: str = "o-"
) -> None:
    """Of the worse kind of query."""
    worst = min if name.endswith("recall") else max
    of_part: dict[float, list[float]] = {}
    for cell in figures["cells"]:
        if cell["case"] == case:
            of_part.setdefault(cell["part"], []).append(cell[name])
    axes.plot(list(of_part), [worst(each) for each in of_part.values()], style, color=colour, label=label, markersize=4)
