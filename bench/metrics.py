"""What the metrics cost a search over HTTP.

    python -m bench.metrics

Three sidecars on copies of one archive of 60,000 images, in front of one embedder that looks vectors up and takes 1 ms:
`without` the middleware that counts and times requests; `metrics`, as it always runs; and `again`, without it like the
first. bench/paired.py asks them in turns; what `again` differs from `without` is the error of the measure. Nobody
scrapes meanwhile. Takes less than three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench.collection import filled
from bench.index_clients import lookup_embedder
from bench.paired import Pinned, in_turns, told

_ROWS = 60_000
_NAMES = ("without", "metrics", "again")


class _Unmeasured(Pinned):
    module = "bench.unmeasured"


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """The figures of bench.paired, by what was measured."""
    async with filled(_ROWS) as collection, contextlib.AsyncExitStack() as stack:
        queries = collection.queries["text"]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, key_file = stack.enter_context(lookup_embedder(folder, queries))
        sidecars: dict[str, tuple[Pinned, dict[str, str]]] = {}
        for name in _NAMES:
            shutil.copytree(collection.folder, folder / name)
            kind = Pinned if name == "metrics" else _Unmeasured
            sidecars[name] = stack.enter_context(kind(folder / name, url, key_file, ACCESS="open")), {}
        return await in_turns(sidecars, len(queries), rounds, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=36)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each slice; six to a round")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.rounds, arguments.seconds))
    print(told(figures, _NAMES))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
