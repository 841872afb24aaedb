"""The table of docs/reliability.md, from the results of the campaign."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..support.sidecar import ROOT
from .cases import PARTS

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- from docs/reliability.json: do not edit -->", "<!-- end -->"


def write(results: Mapping[str, Any]) -> None:
    """Put the table in the place of the one before."""
    page = PAGE.read_text()
    new = f"{BEGIN}\n\n{table(results)}\n{END}"
    PAGE.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: new, page, flags=re.DOTALL))


def table(results: Mapping[str, Any]) -> str:
    """One row a fault, and below it how each case was run."""
    head = ("fault or attack", "cases", "lost", "wrong", "leaked", "s to recover", "figures", "bounds of time missed")
    lines = [_row(head), _row(["---", *["---:"] * 5, "---", "---"])]
    runs = []
    for part in PARTS:
        for case in PARTS[part].cases:
            if (ran := results.get(part, {}).get(case)) is None:
                continue
            lines += [_of(row) for row in ran["rows"]]
            options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in ran["run"].items())
            runs.append(f"- {part}/{case}: {ran['began']} UTC, {ran['seconds']} s, {ran['machine']};{options}")
    return "\n".join([*lines, "", *(run.rstrip(";") for run in runs), ""])


def _of(row: Mapping[str, Any]) -> str:
    figures = "; ".join(f"{key} {value}" for key, value in row["figures"].items())
    recovered = "" if row["recovered_s"] is None else row["recovered_s"]
    counts = [row[kind] for kind in ("lost", "wrong", "leaked")]
    return _row((row["fault"], row["cases"], *counts, recovered, figures, "; ".join(row["missed"])))


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
