"""Which batch size and delay TorchServe should have: python -m bench.batching

Builds an archive for each pair and measures, through TorchServe's HTTP, what one client waits for a short text and how
many short texts and 224-pixel JPEGs a second 32 clients get. handler/model-config.yaml holds the choice.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from pathlib import Path

import build_mar
import weights

from tests.support.real_servers import TorchServe
from tests.support.samples import PHOTOGRAPHS
from tests.support.sidecar import ROOT

from . import photographs
from .clients import Clients, cycle
from .embedding import CLIENTS, SHORT_TEXTS

PAIRS = ((1, 1), (4, 1), (8, 1), (16, 1), (32, 1), (16, 0), (16, 2), (16, 10))


def _config(batch_size: int, delay_ms: int) -> str:
    text = (ROOT / "handler" / "model-config.yaml").read_text()
    text = re.sub(r"(?m)^batchSize: \d+", f"batchSize: {batch_size}", text)
    return re.sub(r"(?m)^maxBatchDelay: \d+", f"maxBatchDelay: {delay_ms}", text)


def _measure(folder: Path, chosen: weights.Weights, batch_size: int, delay_ms: int) -> tuple[float, float, float]:
    """(ms of a lone short text, short texts a second, images a second)."""
    config = folder / "model-config.yaml"
    config.write_text(_config(batch_size, delay_ms))
    torchserve = TorchServe(build_mar.build(chosen, folder, config).parent, folder / "state")
    torchserve.start()
    try:
        torchserve.wait()
        texts, images = Clients(torchserve, "text"), Clients(torchserve, "image")
        short = [text.encode() for text in SHORT_TEXTS]
        small = [photographs.jpeg(path, 224) for path in PHOTOGRAPHS]
        texts.per_s(cycle(short, 64), CLIENTS)
        lone_ms = statistics.median(texts.latencies_s(cycle(short, 60))) * 1000
        return lone_ms, texts.per_s(cycle(short, 640), CLIENTS), images.per_s(cycle(small, 128), CLIENTS)
    finally:
        torchserve.stop()


def main() -> None:
    """Measure every pair and print a row for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=weights.CACHE, help="where untrained weights are cached")
    chosen = weights.untrained(parser.parse_args().cache)
    print(f"{'batchSize':>10}{'delay ms':>10}{'1 client ms':>14}{'32: texts/s':>14}{'images/s':>10}")
    for batch_size, delay_ms in PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            lone_ms, texts_per_s, images_per_s = _measure(Path(folder), chosen, batch_size, delay_ms)
        row = f"{batch_size:>10}{delay_ms:>10}{lone_ms:>14.1f}{texts_per_s:>14.1f}{images_per_s:>10.1f}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
