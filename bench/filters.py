"""What a filter costs and finds, by how much passes and where that lies, beside searching all and dropping."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.clip_shape import Vectors
from bench.collection import Figures, K, percentile
from bench.filtered_collection import CASES, KINDS, PARTS, QUERIES, FilteredCollection, filled
from index_sidecar.archive.content import Hit
from index_sidecar.archive.finder import Asked, Finder
from index_sidecar.archive.relevance import Calibration
from index_sidecar.archive.search import DEPTH, Search
from index_sidecar.vectors.index import FaissIndex

_FEW = 20
_DROPPED = 6  # of the slowest: at a million, where little passes, a quarter of a second each
_BLOCKS = (16, 128, 1024, 10_000)  # as finder.py asks for ever more


async def measure_filters(rows: int) -> Figures:
    """All figures of one size."""
    async with filled(rows) as collection:
        asked = [collection.queries("spread", kind)[number] for number in range(QUERIES) for kind in KINDS]
        plain = await _times(asked, lambda query: collection.approximate.search(query, K, "image", None))
        exact = await _times(asked[:_FEW], lambda query: collection.exact.search(query, K, "image", None))
        state = await collection.approximate.state("image")
        figures: Figures = {
            "rows": rows,
            "nprobe": state.nprobe,
            "gate_recall": state.recall,
            "unfiltered_p50_ms": percentile(plain, 50),
            "unfiltered_p99_ms": percentile(plain, 99),
            "exact_p50_ms": percentile(exact, 50),
            "exact_p99_ms": percentile(exact, 99),
            "cells": [],
        }
        for part in PARTS:
            for case in CASES:
                figures["cells"] += await _cells(collection, part, case)
        figures |= await _deep(collection)
    return figures | _bars(figures)


async def _cells(collection: FilteredCollection, part: float, case: str) -> list[Figures]:
    """From texts and from images, with one filter."""
    chosen = collection.filter(part, case)
    started = time.perf_counter()
    selection = await collection.store.select(chosen)
    found_ms = (time.perf_counter() - started) * 1000
    cells = []
    for kind in KINDS:
        queries = collection.queries(case, kind)
        true = collection.true(part, case, queries)
        cell: Figures = {"part": part, "case": case, "queries": kind, "passing": len(selection.keys)}
        cell["find_rows_ms"] = found_ms
        for name, index, some in (("", collection.approximate, QUERIES), ("exact_", collection.exact, _FEW)):
            started = time.perf_counter()
            await index.search(queries[0], K, "image", None, selection)
            cell[f"{name}first_ms"] = (time.perf_counter() - started) * 1000
            search = partial(index.search, k=K, content_type="image", without_user=None, among=selection)
            cell |= await _asked(name, queries[:some], true, search)
        passing = {f"image {row}" for row in collection.passing(part, case).tolist()}
        cell |= await _asked("drop_", queries[:_DROPPED], true, partial(_drop, collection.approximate, passing))
        cells.append(cell)
    return cells


async def _asked(
    name: str, queries: Vectors, true: Sequence[set[int]], search: Callable[[Vectors], Awaitable[list[Hit]]]
) -> Figures:
    answers: list[list[Hit]] = []

    async def ask(query: Vectors) -> None:
        answers.append(await search(query))

    times = await _times(queries, ask)
    found = [{int(hit.id.split()[-1]) for hit in hits} for hits in answers[-len(queries) :]]
    recalls = [len(one & other) / len(other) for one, other in zip(found, true, strict=False)]
    return {
        f"{name}p50_ms": percentile(times, 50),
        f"{name}p99_ms": percentile(times, 99),
        f"{name}recall": float(np.mean(recalls)),
    }


async def _drop(index: FaissIndex, passing: set[str], query: Vectors) -> list[Hit]:
    """Search all, drop what does not pass, and ask for more until there is enough."""
    kept: list[Hit] = []
    for size in _BLOCKS:
        hits = await index.search(query, size, "image", None)
        kept = [hit for hit in hits if hit.id in passing][:K]
        if len(kept) == K:
            break
    return kept


async def _times(queries: Sequence[Any] | Vectors, ask: Callable[[Any], Awaitable[object]]) -> list[float]:
    """Milliseconds of each; a few that do not count go before."""
    for query in queries[: 3 if len(queries) > _DROPPED else 1]:
        await ask(query)
    times = []
    for query in queries:
        started = time.perf_counter()
        await ask(query)
        times.append((time.perf_counter() - started) * 1000)
    return times


def _bars(figures: Figures) -> Figures:
    """What was promised, as the worst of all cells."""
    cells = figures["cells"]
    return {
        "least_recall": min(cell["recall"] for cell in cells),
        "most_over_unfiltered_from_1_percent": max(
            cell["p50_ms"] / figures["unfiltered_p50_ms"] for cell in cells if cell["part"] >= 0.01
        ),
        "most_over_exact": max(cell["p50_ms"] / figures["exact_p50_ms"] for cell in cells),
        "most_of_exact_filtered_over_exact": max(cell["exact_p50_ms"] / figures["exact_p50_ms"] for cell in cells),
    }


async def _deep(collection: FilteredCollection) -> Figures:
    """The last page that anybody may ask for, among the half that passes a filter: milliseconds, and the memory."""

    async def unknown() -> Calibration:
        return Calibration()

    finder = Finder(collection.store, collection.approximate, unknown, 60.0)
    asked = Asked(collection.queries("spread", "text")[0], "text")
    figures: Figures = {}
    for name, fold in (("deep", False), ("deep_folded", True)):
        search = Search(10, "image", offset=DEPTH - 10, fold=fold, filter=collection.filter(0.5, "spread"))
        figures[f"{name}_ms"] = percentile(await _times([asked] * 3, partial(finder.find, search=search)), 50)
        tracemalloc.start()
        await finder.find(asked, search)
        figures[f"{name}_peak_bytes"] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return figures


def print_filters(figures: Figures) -> None:
    """As a table."""
    print(
        f"\n{figures['rows']:,} images; without a filter: approximate p50 {figures['unfiltered_p50_ms']:.2f} ms,"
        f" p99 {figures['unfiltered_p99_ms']:.2f}; exact float16 {figures['exact_p50_ms']:.2f}"
    )
    columns = ("p50_ms", "p99_ms", "recall", "exact_p50_ms", "drop_p50_ms", "drop_recall", "find_rows_ms", "first_ms")
    print(f"  {'passing':>8} {'where':<12}{'query':<7}" + "".join(f"{name:>14}" for name in columns))
    for cell in figures["cells"]:
        head = f"  {cell['part']:>8.2%} {cell['case']:<12}{cell['queries']:<7}"
        print(head + "".join(f"{cell[name]:>14.3f}" for name in columns))
    for name, value in figures.items():
        if name.startswith(("least", "most", "deep")):
            print(f"  {name:<40}{value:>14,.3f}")
