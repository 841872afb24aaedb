"""The table of docs/reliability.md, from the results of the campaign."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..support.sidecar import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- from docs/reliability.json: do not edit -->", "<!-- end -->"


def write(results: Mapping[str, Any], order: Sequence[str]) -> None:
    """Put the table in the place of the one before."""
    page = PAGE.read_text()
    new = f"{BEGIN}\n\n{table(results, order)}\n{END}"
    PAGE.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: new, page, flags=re.DOTALL))


def table(results: Mapping[str, Any], order: Sequence[str]) -> str:
    """One row a fault, and below it how each part was run."""
    head = ("fault or attack", "cases", "lost", "wrong", "leaked", "s to recover", "figures")
    lines = [_row(head), _row(["---", *["---:"] * 5, "---"])]
    runs = []
    for name in order:
        if (part := results["parts"].get(name)) is None:
            continue
        for row in part["rows"]:
            figures = "; ".join(f"{key} {value}" for key, value in row["figures"].items())
            recovered = "" if row["recovered_s"] is None else row["recovered_s"]
            lines.append(
                _row((row["fault"], row["cases"], row["lost"], row["wrong"], row["leaked"], recovered, figures))
            )
        options = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in part["run"].items())
        runs.append(f"- {name}: {part['began']} UTC, {part['seconds']} s, {part['machine']}; of the options {options}")
    return "\n".join([*lines, "", *runs, ""])


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
