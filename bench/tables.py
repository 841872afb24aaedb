"""Write the tables of bench/README.md from the figures that are kept beside it: python -m bench.tables

Each table stands between two comments that name its file. The figures come from `python -m bench.embedding --json
bench/embedding.json`, `python -m bench.precision --json bench/precision.json`, `python -m bench.index --plot` and
`python -m bench.many --json bench/many.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.many import WAYS

FOLDER = Path(__file__).parent
Figures = dict[str, Any]

_CONTENTS = {
    "short_text": "short text",
    "long_text": "77-token text",
    "image": "JPEG, 224 x 224",
    "photo12mp": "JPEG, 12 megapixels",
}


def embedding(figures: Figures) -> list[str]:
    """Ours behind HTTP beside OpenAI's code, then the towers alone, then what else was seen."""
    lines = _rows("", "ours p50", "p99", "OpenAI p50", "latency ratio", "ours /s", "OpenAI /s", "throughput ratio")
    for key, name in _CONTENTS.items():
        f = {each.removeprefix(f"{key}_"): value for each, value in figures.items() if each.startswith(f"{key}_")}
        ms = (f"{f[each]:.1f} ms" for each in ("p50_ms", "p99_ms", "openai_p50_ms"))
        ratios = f"{f['latency_ratio']:.1f}", f"{f['throughput_ratio']:.1f}"
        lines.append(_row(name, *ms, ratios[0], f"{f['per_s']:.1f}", f"{f['openai_per_s']:.1f}", ratios[1]))
    if "in_process_ours_image_ms" in figures:
        lines += ["", *_rows("in process, without HTTP", "ours", "plain ONNX Runtime", "OpenAI")]
        for key, name in (("short_text", "short text"), ("image", "image, of 16")):
            sides = (figures[f"in_process_{side}_{key}_ms"] for side in ("ours", "onnxruntime", "openai"))
            lines.append(_row(name, *(f"{value:.1f} ms" for value in sides)))
    lines += [
        "",
        f"{figures['cpu']}, {figures['cores']} cores, {figures['rounds']} rounds, {figures['clients']} clients, weights"
        f" `{figures['fingerprint']}`. The float32 ceiling is {figures['image_sgemm_gflops_per_s']:.0f} GFLOP/s"
        f" ({figures['ceiling_library']}), memory reads {figures['short_text_read_gb_per_s']:.1f} GB/s.",
        f"Of the ceiling images reach {figures['image_sgemm_fraction']:.0%} behind HTTP"
        + (
            f" and {figures['in_process_image_sgemm_fraction']:.0%} in process"
            if "in_process_image_sgemm_fraction" in figures
            else ""
        )
        + f"; reading its weights once is {figures['short_text_read_fraction']:.0%} of a short text's time.",
        f"Lowest cosine to OpenAI's vectors {figures['min_cosine_to_openai']:.6f}, of large photographs"
        f" {figures['photo12mp_min_cosine']:.6f}. The worker's peak was {figures['worker_peak_bytes'] / 1e9:.2f} GB; a"
        f" killed one was back with a vector after {figures['worker_start_s']:.1f} s.",
    ]
    return lines


def precision(figures: Figures) -> list[str]:
    """Each precision beside float32."""
    head = ("short text", "image", "8 images", "ceiling", "cosine to fp32", "recall@10 of texts among images", "others")
    lines = _rows("", *head)
    for name, f in figures["precisions"].items():
        times = (f"{f[key]:.1f} ms" for key in ("short_text_ms", "image_ms", "images8_ms"))
        agreement = (f"{f['min_cosine']:.5f}", f"{f['recall_text_image']:.4f}", f"{f['recall_lowest_other']:.4f}")
        lines.append(_row(name, *times, f"{f['ceiling_gflops_per_s']:.0f} GFLOP/s", *agreement))
    return [
        *lines,
        "",
        f"{figures['cpu']}, {figures['cores']} cores. `precision: fast` is {figures['fast']} here.",
    ]


def index(figures: Figures) -> list[str]:
    """Every size, then what was measured at the largest."""
    head = ("images", "floor", "Flat, one a call", "exact float32", "exact float16", "approximate", "Qdrant")
    lines = _rows(*head, "recall@10 from texts / images", "HNSW's", "Qdrant's")
    for f in figures["sizes"]:
        kinds = ("floor", "flat_p50", "float32_p50", "float16_p50", "approximate_p50", "qdrant_p50")
        times = (f"{f[f'{kind}_ms']:.1f} ms" if f"{kind}_ms" in f else "" for kind in kinds)
        lines.append(_row(f"{f['rows']:,}", *times, *(_recalls(f, *names) for names in _RECALLS)))
    last = figures["sizes"][-1]
    return [
        *lines,
        "",
        f"At {last['rows']:,} one exact query costs {last['exact_single_over_flat']:.2f} times plain Flat's, since all"
        f" cores read; 32 at once are answered {last['exact_batch32_speedup']:.1f} times as fast as one by one.",
        f"Leaving out a user who owns a quarter costs {last['exclude_owner_cost']:.2f} of the plain query, one whose"
        f" contents are the nearest {last['exclude_nearest_cost']:.2f} of that.",
        f"The approximate index is {last['ivf_speedup']:.1f} times as fast as the exact one. Its build beside queries"
        f" and adds took {last['build_s']:.0f} s and never held the event loop up for more than"
        f" {last['build_loop_stall_ms']:.0f} ms; the slowest query meanwhile took {last['build_query_max_ms']:.0f} ms.",
        f"A delete takes {last['delete_p50_ms']:.2f} ms. A restart took {last['restart_s']:.1f} s, with a byte of the"
        f" snapshot flipped {last['restart_flipped_s']:.1f}, with half of it gone {last['restart_truncated_s']:.1f}.",
    ]


_RECALLS = (
    ("recall_text_to_image", "recall_image_to_image"),
    ("hnsw_recall_text", "hnsw_recall_image"),
    ("qdrant_recall_text", "qdrant_recall_image"),
)


def _recalls(figures: Figures, text: str, image: str) -> str:
    return f"{figures[text]:.3f} / {figures[image]:.3f}" if text in figures else ""


def many(figures: Figures) -> list[str]:
    """Rates of single calls and of many contents in one call, and what the sidecar's memory did meanwhile."""
    lines = _rows("", "texts /s", "of 32 single calls'", "the sidecar's CPU a text")
    for way, name, _ in WAYS:
        rate = figures[f"{way}_per_s"]
        part = f"{rate / figures['single_32_per_s']:.2f}"
        lines.append(_row(name, f"{rate:.0f}", part, f"{figures[f'{way}_cpu_ms']:.2f} ms"))
    first, last = figures["memory_mb"][0], figures["memory_mb"][-1]
    count = figures["rounds"] * figures["contents_a_round"]
    return [
        *lines,
        "",
        f"{figures['cores']} cores, {figures['texts']:,} texts each way, rounds: {figures['rounds']}; the model is"
        f" {figures['model']}.",
        f"The load average was {figures['load']:.1f}: above some three, others had the cores, too, and ratios are"
        " rough.",
        f"The sidecar's memory was {first:.0f} MB before and {last:.0f} MB after {count:,} more"
        f" contents, {(last - first) * 1e6 / count / 1024:.1f} KB each, of which a vector is 2.",
    ]


TABLES: dict[str, Callable[[Figures], list[str]]] = {
    "embedding": embedding,
    "precision": precision,
    "index": index,
    "many": many,
}


def written(text: str, folder: Path = FOLDER) -> str:
    """`text` with every table whose figures are in `folder` as they say."""
    for name, render in TABLES.items():
        path = folder / f"{name}.json"
        if path.exists():
            table = "\n".join(render(json.loads(path.read_text())))
            text, count = _block(name).subn(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text)  # type: ignore[misc]
            if count != 1:
                raise ValueError(f"the text has {count} places for {name}.json, not 1")
    return text


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}\.json:[^>]*-->)\n.*?(<!-- end -->)", re.DOTALL)


def _rows(*head: str) -> list[str]:
    return [_row(*head), "|" + "---|" * len(head)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write what stands."""
    path = FOLDER / "README.md"
    path.write_text(written(path.read_text()))


if __name__ == "__main__":
    main()
