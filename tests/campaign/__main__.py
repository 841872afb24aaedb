"""Runs the campaign and writes docs/reliability.json and the table of docs/reliability.md from what it found."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..support.sidecar import ROOT
from .cases import PARTS
from .findings import Row
from .table import write

RESULTS = ROOT / "docs" / "reliability.json"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    names = [*PARTS, *(f"{part}/{case}" for part in PARTS for case in PARTS[part].cases)]
    parser.add_argument(
        "--only",
        choices=names,
        nargs="+",
        default=list(PARTS),
        metavar="PART[/CASE]",
        help=f"these alone, of {', '.join(names)}; what is known of the others stays",
    )
    parser.add_argument("--kills", type=int, default=500, help="how often the sidecar is killed")
    parser.add_argument("--kill-minutes", type=float, default=180.0, help="after which no more kills are begun")
    parser.add_argument("--rounds", type=int, default=5, help="how often each fault is tried")
    parser.add_argument("--reader-s", type=float, default=60.0, help="how long a foreign reader holds the database")
    parser.add_argument("--overload-s", type=float, default=20.0, help="how long each overload is measured")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the soak takes")
    parser.add_argument("--fault-every-s", type=float, default=60.0, help="how far apart its faults are")
    parser.add_argument("--real-rounds", type=int, default=3, help="kills of each process of a real TorchServe")
    parser.add_argument("--seed", type=int, default=1, help="of what is random")
    return parser


def _run(part: str, case: str, options: argparse.Namespace) -> dict[str, Any]:
    """The rows of one case, and how they came about."""
    began, load = time.time(), os.getloadavg()[0]

    async def run() -> Row | list[Row] | None:
        with tempfile.TemporaryDirectory() as folder, tqdm(desc=f"{part}/{case}", unit=" cases") as bar:

            def tell() -> None:
                bar.update()

            return await PARTS[part].cases[case](options, Path(folder) / "bench", tell)

    found = asyncio.run(run()) or []
    return {
        "run": {name: getattr(options, name) for name in PARTS[part].options},
        "began": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)),
        "seconds": round(time.time() - began),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load {load:.1f} before",
        "rows": [row.as_json() for row in (found if isinstance(found, list) else [found])],
    }


def main() -> None:
    """Run the cases one after the other; what is known of a case stays until it is run again. 1 where a row is bad."""
    options = _parser().parse_args()
    wanted = [tuple(name.split("/")) for name in options.only]
    bad = 0
    for part, case in [(name, case) for name in PARTS for case in PARTS[name].cases]:
        if (part,) not in wanted and (part, case) not in wanted:
            continue
        ran = _run(part, case, options)
        # Read now: another campaign may have written its own meanwhile.
        results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results.setdefault(part, {})[case] = ran
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results)
        bad += sum(bool(row[kind]) for row in ran["rows"] for kind in ("lost", "wrong", "leaked", "missed"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
