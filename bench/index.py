"""Measure the index at growing sizes beside plain Faiss, HNSW and the memory's own speed: python -m bench.index."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from bench.collection import Figures
from bench.filters import measure_filters, print_filters
from bench.filters_picture import plot as plot_filters
from bench.growth import plot
from bench.index_measures import measure
from bench.qdrant import measure_qdrant
from tests.support.qdrant_server import BINARY

_RESULTS = Path(__file__).parent / "index.json"
_PICTURE = Path(__file__).parent / "growth.png"
_FILTERS = Path(__file__).parent / "filters.json"
_FILTERS_PICTURE = Path(__file__).parent / "filters.png"
_SIZES = [10_000, 100_000, 1_000_000]
_LINES = [  # what, of which figures, as what
    ("memory-bandwidth floor, ms", "floor_ms", ".2f"),
    ("plain Faiss Flat, one query a call: p50, ms", "flat_p50_ms", ".2f"),
    ("exact float32: p50, ms", "float32_p50_ms", ".2f"),
    ("               p99, ms", "float32_p99_ms", ".2f"),
    ("               32 concurrent callers, answers/s", "float32_32_clients_per_s", ".0f"),
    ("exact float16: p50, ms", "float16_p50_ms", ".2f"),
    ("               32 concurrent callers, answers/s", "float16_32_clients_per_s", ".0f"),
    ("exact memory, MB: float32", "float32_bytes", "MB"),
    ("                  float16", "float16_bytes", "MB"),
    ("load from the store, s: float32", "float32_load_s", ".1f"),
    ("HNSW (Faiss, M 16, ef 128): build, s", "hnsw_build_s", ".1f"),
    ("               p50 of text->image, ms", "hnsw_p50_ms_text", ".2f"),
    ("               recall@10 text->image", "hnsw_recall_text", ".3f"),
    ("               recall@10 image->image", "hnsw_recall_image", ".3f"),
    ("approximate:   build beside queries and adds, s", "build_s", ".0f"),
    ("               nprobe, chosen by the gate", "nprobe", "d"),
    ("               p50, ms", "approximate_p50_ms", ".2f"),
    ("               p99, ms", "approximate_p99_ms", ".2f"),
    ("               32 concurrent callers, answers/s", "approximate_32_clients_per_s", ".0f"),
    ("               memory, MB", "approximate_bytes", "MB"),
    ("               recall@10 text->image, independent", "recall_text_to_image", ".3f"),
    ("               recall@10 image->image, independent", "recall_image_to_image", ".3f"),
    ("               event loop's longest stall in the build, ms", "build_loop_stall_ms", ".0f"),
    ("               query p50 during the build, ms", "build_query_p50_ms", ".1f"),
    ("               single delete: p50, ms", "delete_p50_ms", ".2f"),
    ("               single delete: slowest of 200, ms", "delete_max_ms", ".2f"),
    ("               restart from the snapshot, s", "restart_s", ".1f"),
    ("               restart, a byte of the snapshot flipped, s", "restart_flipped_s", ".1f"),
    ("               restart, half of the snapshot gone, s", "restart_truncated_s", ".1f"),
    ("one Qdrant node: copy the store, s", "qdrant_copy_s", ".0f"),
    ("               until all is indexed, s", "qdrant_indexed_s", ".0f"),
    ("               p50, ms", "qdrant_p50_ms", ".2f"),
    ("               p99, ms", "qdrant_p99_ms", ".2f"),
    ("               32 concurrent callers, answers/s", "qdrant_32_clients_per_s", ".0f"),
    ("               resident memory, MB", "qdrant_bytes", "MB"),
    ("               recall@10 text->image", "qdrant_recall_text", ".3f"),
    ("               recall@10 image->image", "qdrant_recall_image", ".3f"),
    ("sidecar process over HTTP: start until ready, s", "http_start_s", ".1f"),
    ("               32 clients, answers/s", "http_32_clients_per_s", ".0f"),
    ("RATIOS exact_single_over_flat", "exact_single_over_flat", ".2f"),
    ("       exact_batch32_speedup", "exact_batch32_speedup", ".1f"),
    ("       exclude_owner_cost", "exclude_owner_cost", ".2f"),
    ("       exclude_nearest_cost", "exclude_nearest_cost", ".2f"),
    ("       ivf_speedup", "ivf_speedup", ".1f"),
]

_NAMED = {  # in the JSON: of which size, and there under which name
    **{name: (100_000, name) for name in ("exact_single_over_flat", "exact_batch32_speedup", "exclude_owner_cost")},
    **{
        name: (1_000_000, name)
        for name in (
            *("restart_s", "restart_flipped_s", "restart_truncated_s", "delete_p50_ms", "build_loop_stall_ms"),
            *("recall_text_to_image", "recall_image_to_image"),
        )
    },
    "ivf_speedup_1m": (1_000_000, "ivf_speedup"),
}


def main() -> None:
    """Measure, print, and keep what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.index",
        description=__doc__,
        epilog="Vectors have the shape CLIP gives (bench/clip_shape.py). TorchServe is a process that looks its answer"
        " up in a table in about 1 ms. A size of 1M takes 4 GB of memory, 5 GB of disk ($BENCH_DIR) and some minutes.",
    )
    parser.add_argument("--quick", action="store_true", help="only 100,000 vectors, exact, under a minute")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="default: 10000 100000 1000000")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each single measurement (default: %(default)g)")
    parser.add_argument(
        "--qdrant", action="store_true", help="one Qdrant node instead (make qdrant); it takes an hour to index 1M"
    )
    parser.add_argument("--filters", action="store_true", help="filtered searches instead, by what part passes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there, beside those of other sizes")
    parser.add_argument(
        "--plot",
        action="store_true",
        help=f"keep the figures in {_RESULTS.name}, and draw {_PICTURE.name} of all there",
    )
    arguments = parser.parse_args()
    if arguments.qdrant and not BINARY.exists():
        parser.error("there is no Qdrant server here: make qdrant")
    sizes, seconds = ([100_000], 1.5) if arguments.quick else (arguments.sizes or _SIZES, arguments.seconds)
    if arguments.filters:
        _filters([100_000] if arguments.quick else arguments.sizes or _SIZES[1:], arguments.json, arguments.plot)
        return
    for rows in sizes:
        if arguments.qdrant:
            figures = asyncio.run(measure_qdrant(rows, seconds))
        else:
            approximate = rows >= 50_000 and not arguments.quick
            figures = asyncio.run(measure(rows, approximate, hnsw=rows <= 100_000, seconds=seconds))
        _print(figures)
        if arguments.json:
            _keep(figures, arguments.json)
        if arguments.plot:
            plot(_keep(figures, _RESULTS), _PICTURE)


def _filters(sizes: list[int], json_file: Path | None, drawn: bool) -> None:
    """Filtered searches at these sizes."""
    for rows in sizes:
        figures = asyncio.run(measure_filters(rows))
        print_filters(figures)
        if json_file:
            _keep(figures, json_file)
        if drawn:
            plot_filters(_keep(figures, _FILTERS), _FILTERS_PICTURE)


def _keep(figures: Figures, path: Path) -> list[Figures]:
    """Put the figures into a file, beside those of other sizes and engines; all it holds then, by size."""
    kept = {each["rows"]: each for each in json.loads(path.read_text())["sizes"]} if path.exists() else {}
    kept[figures["rows"]] = kept.get(figures["rows"], {}) | figures
    together = [kept[rows] for rows in sorted(kept)]
    path.write_text(json.dumps(_summary(together), indent=1) + "\n")
    return together


def _print(figures: Figures) -> None:
    print(f"\n{figures['rows']:,} images")
    for label, name, form in _LINES:
        if name in figures:
            value = f"{figures[name] / 1e6:.0f}" if form == "MB" else format(figures[name], form)
            print(f"  {label:<58}{value:>10}")
    for direction, recall in (figures.get("gate_recall") or {}).items():
        print(f"  {'               recall@10 ' + direction + ', by the gate':<58}{recall:>10.3f}")


def _summary(results: list[Figures]) -> dict[str, Any]:
    """Everything, and the figures others check under their own names."""
    by_rows = {figures["rows"]: figures for figures in results}
    summary = {
        name: by_rows[rows][figure] for name, (rows, figure) in _NAMED.items() if figure in by_rows.get(rows, {})
    }
    return {**summary, "sizes": results}


if __name__ == "__main__":
    main()
