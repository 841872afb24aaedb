"""The tables of bench/README.md say what was measured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import tables

MEASURED = {
    "cpu": "A CPU",
    "cores": 2,
    "fast": "bf16",
    "precisions": {
        name: {
            "short_text_ms": 4.84,
            "image_ms": 20.0,
            "images8_ms": 150.0,
            "ceiling_gflops_per_s": 434.6,
            "min_cosine": 0.99991234,
            "recall_text_image": 0.98765,
            "recall_lowest_other": 0.97654,
        }
        for name in ("fp32", "bf16")
    },
}
TEXT = "before\n<!-- precision.json: python -m bench.tables -->\nold figures\n<!-- end -->\nafter\n"


def test_the_tables_stand_as_they_were_measured() -> None:
    text = (tables.FOLDER / "README.md").read_text()
    assert tables.written(text) == text, "python -m bench.tables"
    for name in tables.TABLES:
        assert len(tables._block(name).findall(text)) == 1


def test_a_table_is_written_between_its_comments(tmp_path: Path) -> None:
    assert tables.written(TEXT, tmp_path) == TEXT  # nothing measured, nothing changed
    (tmp_path / "precision.json").write_text(json.dumps(MEASURED))
    text = tables.written(TEXT, tmp_path)
    assert "| bf16 | 4.8 ms | 20.0 ms | 150.0 ms | 435 GFLOP/s | 0.99991 | 0.9877 | 0.9765 |" in text
    assert "A CPU, 2 cores. `precision: fast` is bf16 here." in text
    assert "old figures" not in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert tables.written(text, tmp_path) == text


def test_a_table_without_a_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "precision.json").write_text(json.dumps(MEASURED))
    with pytest.raises(ValueError, match=r"0 places for precision\.json"):
        tables.written("no comments here", tmp_path)


def test_the_operators_page_sizes_by_what_was_measured() -> None:
    page = (tables.FOLDER.parent / "docs" / "operating.md").read_text()
    index = json.loads((tables.FOLDER / "index.json").read_text())
    embedding = json.loads((tables.FOLDER / "embedding.json").read_text())
    assert len(index["sizes"]) == 3
    for each in index["sizes"]:
        megabytes = [f"{each[name] / 1e6:,.0f}" for name in ("float32_bytes", "float16_bytes")]
        approximate = "approximate_p50_ms" in each
        megabytes.append(f"{each['approximate_bytes'] / 1e6:,.0f}" if approximate else "-")
        ms = [f"{each['float32_p50_ms']:.1f}", f"{each['approximate_p50_ms']:.1f}" if approximate else "-"]
        served = [f"{each['http_32_clients_per_s']:.0f}", f"{each['http_start_s']:.1f}"]
        cells = " | ".join([f"{each['rows']:,}", *megabytes, *ms, *served])
        assert f"| {cells} |" in page
    told = {"short texts": "short_text", "texts of 77 tokens": "long_text", "images": "image"}
    for contents, name in {**told, "photographs of 12 megapixels": "photo12mp"}.items():
        assert f"| {contents} | {embedding[name + '_per_s']:.0f} |" in page
