"""What the metrics cost a search over HTTP.

    python -m bench.metrics

Three sidecars on copies of one archive of 60,000 images, in front of one embedder that looks vectors up and takes 1 ms:
`without` the middleware that counts and times requests; `metrics`, as it always runs; and `again`, without it like the
first. bench/paired.py asks them in turns; what `again` differs from `without` is the error of the measure. Nobody
scrapes meanwhile. Takes less than three minutes.
"""

from __future__ import annotations

from pathlib import Path

from bench.paired import Pinned, Way, main

_NAMES = ("without", "metrics", "again")


class _Unmeasured(Pinned):
    module = "bench.unmeasured"


def _way(name: str, folder: Path) -> Way:
    return Way({"ACCESS": "open"}, kind=Pinned if name == "metrics" else _Unmeasured)


if __name__ == "__main__":
    main(__doc__, _NAMES, _way, rounds=36)
