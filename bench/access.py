"""What API keys and limits cost a search over HTTP.

    python -m bench.access

Three sidecars on copies of one archive of 60,000 images, in front of one embedder that looks vectors up and takes 1 ms:
`open`; `keys`, which asks for a key and counts; and `again`, open like the first. bench/paired.py asks them in turns;
what `again` differs from `open` is the error of the measure.
"""

from __future__ import annotations

from pathlib import Path

from bench.paired import Way, main
from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role

_NAMES = ("open", "keys", "again")
_LIMITED = {"ACCESS": "keys", "RATE_LIMIT": "100000000/minute", "MODEL_RATE_LIMIT": "100000000/minute"}


def _way(name: str, folder: Path) -> Way:
    if name != "keys":
        return Way({"ACCESS": "open"})
    key = add_key(folder / "keys.json", "bench", Role.READER, None, None)
    return Way(_LIMITED, {"Authorization": f"Bearer {key}"})


if __name__ == "__main__":
    main(__doc__, _NAMES, _way, rounds=60)
