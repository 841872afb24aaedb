"""What API keys and limits cost a search over HTTP.

    python -m bench.access

Three sidecars on copies of one archive of 60,000 images, in front of one embedder that looks vectors up and takes 1 ms:
`open`; `keys`, which asks for a key and counts; and `again`, open like the first. bench/paired.py asks them in turns;
what `again` differs from `open` is the error of the measure.
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
from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role

_ROWS = 60_000
_NAMES = ("open", "keys", "again")
_LIMITED = {"ACCESS": "keys", "RATE_LIMIT": "100000000/minute", "MODEL_RATE_LIMIT": "100000000/minute"}


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """The figures of bench.paired, by what was measured."""
    async with filled(_ROWS) as collection, contextlib.AsyncExitStack() as stack:
        queries = collection.queries["text"]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, key_file = stack.enter_context(lookup_embedder(folder, queries))
        sidecars: dict[str, tuple[Pinned, dict[str, str]]] = {}
        for name in _NAMES:
            shutil.copytree(collection.folder, folder / name)
            environment, headers = ({"ACCESS": "open"}, {})
            if name == "keys":
                key = add_key(folder / name / "keys.json", "bench", Role.READER, None, None)
                environment, headers = _LIMITED, {"Authorization": f"Bearer {key}"}
            sidecars[name] = stack.enter_context(Pinned(folder / name, url, key_file, **environment)), headers
        return await in_turns(sidecars, len(queries), rounds, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each slice; six to a round")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.rounds, arguments.seconds))
    print(told(figures, _NAMES))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
