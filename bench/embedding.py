"""Our handler behind TorchServe's HTTP beside OpenAI's own clip in this process: python -m bench.embedding [--quick]

Both run the same weights on the same cores in turn, round by round; a ratio is the median of the rounds' ratios, above
1 where ours is better. OpenAI's code has no HTTP in its way. The ceilings are what this machine multiplies and reads at
most, measured in the same run. bench/README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import build_mar
import numpy as np
import psutil
import weights
from clip_runtime import usable_cores
from PIL import Image
from tqdm import tqdm

from tests.support.openai_clip import OpenAIClip
from tests.support.real_servers import TorchServe
from tests.support.samples import PHOTOGRAPHS, SENTENCES

from . import in_process, photographs, tables
from .ceilings import Ceilings
from .clients import Clients, cycle
from .cpu import cpu_name
from .in_process import IMAGE_FLOPS

CLIENTS = 32
SHORT_TEXTS = [f"a photo of a {name} in the harbour" for name in ("cat", "dog", "ship", "crane", "child", "gull")]
LONG_TEXTS = [f"{name} " + "and the sea, " * 40 for name in ("storm", "fog", "sun")]
TEXT_WEIGHT_BYTES = 4 * (12 * 12 * 512 * 512 + 512 * 512)  # what one pass of the text tower reads at least


@dataclass
class Side:
    """What one side took: seconds of each lone request, and items a second with all clients."""

    latencies_s: list[float]
    per_s: float
    ceiling_per_s: float = 0.0  # what the machine reached meanwhile: bytes read for texts, flops for images

    def quantile_ms(self, share: float) -> float:
        """So much of the lone requests took no longer."""
        return float(np.quantile(self.latencies_s, share)) * 1000


@dataclass
class Load:
    """One kind of content: what is sent to TorchServe, and what OpenAI's code does for a batch of it."""

    name: str
    content_type: str
    bodies: Sequence[bytes]
    openai: Callable[[Sequence[bytes]], Any]
    lone: int
    batch: int
    under_load: int

    def round(self, torchserve: TorchServe, ceilings: Ceilings, ours_first: bool) -> tuple[Side, Side]:
        """Both sides, each after a request that does not count; who is first changes from round to round."""
        clients, bodies = Clients(torchserve, self.content_type), cycle(self.bodies, self.batch)
        ours: list[float] = []
        openai: list[float] = []
        for turn in (ours_first, not ours_first):
            if turn:
                ours = clients.latencies_s(cycle(self.bodies, 2 * self.lone + 1))[1:]
            else:
                openai = [_seconds(self.openai, [body]) for body in cycle(self.bodies, self.lone + 1)][1:]
        ceiling = ceilings.bytes_per_s if self.content_type == "text" else ceilings.flops_per_s
        ours_per_s = openai_per_s = roof = 0.0
        for turn in (ours_first, not ours_first):
            if turn:
                clients.per_s(cycle(self.bodies, CLIENTS), CLIENTS)
                # The ceiling right before and right after what is compared with it: the machine's speed drifts.
                before = ceiling()
                ours_per_s = clients.per_s(cycle(self.bodies, self.under_load), CLIENTS)
                roof = (before + ceiling()) / 2
            else:
                _seconds(self.openai, bodies[: len(bodies) // 2])
                openai_per_s = self.batch / _seconds(self.openai, bodies)
        return Side(ours, ours_per_s, roof), Side(openai, openai_per_s)


def _seconds(work: Callable[[Sequence[bytes]], Any], bodies: Sequence[bytes]) -> float:
    started = time.perf_counter()
    work(bodies)
    return time.perf_counter() - started


def _open(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body))


def _loads(openai: OpenAIClip, large: Sequence[bytes], small: Sequence[bytes], quick: bool) -> list[Load]:
    def texts(bodies: Sequence[bytes]) -> Any:
        return openai.encode_texts([body.decode() for body in bodies])

    def images(bodies: Sequence[bytes]) -> Any:
        return openai.encode_images([_open(body) for body in bodies])

    short, long = ([text.encode() for text in each] for each in (SHORT_TEXTS, LONG_TEXTS))
    few, batch, much = (6, 16, 48) if quick else (20, 32, 128)
    return [
        Load("short_text", "text", short, texts, 2 * few, batch, 6 * much),
        Load("long_text", "text", long, texts, few, batch, much),
        Load("image", "image", small, images, few, batch, much),
        Load("photo12mp", "image", large, images, few - 2, batch // 4, 2 * much // 3),
    ]


def run(model_store: Path, cache: Path, quick: bool) -> dict[str, Any]:
    """All figures by their key."""
    chosen = weights.untrained(cache)
    figures: dict[str, Any] = {"cpu": cpu_name(), "cores": usable_cores(), "rounds": 1 if quick else 6}
    figures |= {"clients": CLIENTS, "fingerprint": build_mar.fingerprint(chosen)}
    ceilings = Ceilings(usable_cores())
    with tempfile.TemporaryDirectory() as state:
        torchserve = TorchServe(model_store, Path(state))
        torchserve.start()
        try:
            openai = OpenAIClip(chosen.path)
            large = [photographs.twelve_megapixels(path) for path in tqdm(PHOTOGRAPHS[: 6 if quick else 20], "photos")]
            small = [photographs.jpeg(path, 224) for path in PHOTOGRAPHS]
            torchserve.wait()
            served = torchserve.predict(b"which weights?", "text").headers["x-clip-model"]
            if served != figures["fingerprint"]:
                sys.exit(f"the archive has {served}, not {figures['fingerprint']}: make mar WEIGHTS=untrained")
            _warm(torchserve, 300 if quick else 5000)
            for load in _loads(openai, large, small, quick):
                turns = tqdm(range(figures["rounds"]), load.name)
                rounds = [load.round(torchserve, ceilings, ours_first=bool(turn % 2)) for turn in turns]
                figures |= _figures(load, rounds)
            figures |= _agreement(Clients(torchserve, "text"), Clients(torchserve, "image"), openai, large)
            figures["worker_peak_bytes"] = _worker_peak_bytes(torchserve)
            figures["worker_start_s"] = _worker_start_s(torchserve)
        finally:
            torchserve.stop()
        if not quick:  # the export to ONNX alone takes half a minute
            figures |= in_process.measure(chosen.path, Path(state), ceilings, figures["rounds"])
    return figures | {"ceiling_library": ceilings.libraries["fp32"]}


def _warm(torchserve: TorchServe, requests: int) -> None:
    """Java compiles what it runs often, on our cores: it takes some thousands of requests to be done with it.

    These are refused by the handler, after all the way there, and so cost next to nothing but that.
    """
    Clients(torchserve, "none", raise_for_status=False).latencies_s([b"warm"] * requests)


def _figures(load: Load, rounds: Sequence[tuple[Side, Side]]) -> dict[str, float]:
    name = load.name
    ours = [side for side, _ in rounds]
    openai = [side for _, side in rounds]
    ratios = [theirs.quantile_ms(0.5) / own.quantile_ms(0.5) for own, theirs in rounds]
    ceiling = statistics.median(side.ceiling_per_s for side in ours)
    if load.content_type == "text":
        fractions = [TEXT_WEIGHT_BYTES / side.ceiling_per_s / side.quantile_ms(0.5) * 1000 for side in ours]
        ceilings = {f"{name}_read_gb_per_s": ceiling / 1e9, f"{name}_read_fraction": statistics.median(fractions)}
    else:
        fractions = [side.per_s * IMAGE_FLOPS / side.ceiling_per_s for side in ours]
        ceilings = {f"{name}_sgemm_gflops_per_s": ceiling / 1e9, f"{name}_sgemm_fraction": statistics.median(fractions)}
    return ceilings | {
        f"{name}_p50_ms": statistics.median(side.quantile_ms(0.5) for side in ours),
        f"{name}_p99_ms": statistics.median(side.quantile_ms(0.99) for side in ours),
        f"{name}_per_s": statistics.median(side.per_s for side in ours),
        f"{name}_openai_p50_ms": statistics.median(side.quantile_ms(0.5) for side in openai),
        f"{name}_openai_per_s": statistics.median(side.per_s for side in openai),
        f"{name}_latency_ratio": statistics.median(ratios),
        f"{name}_throughput_ratio": statistics.median(own.per_s / theirs.per_s for own, theirs in rounds),
    }


def _agreement(texts: Clients, images: Clients, openai: OpenAIClip, large: Sequence[bytes]) -> dict[str, float]:
    """The lowest cosines to OpenAI's vectors: over the parity set, and over large photographs decoded in full."""
    photos = [path.read_bytes() for path in PHOTOGRAPHS]
    parity = [
        *np.sum(texts.vectors([text.encode() for text in SENTENCES]) * openai.encode_texts(SENTENCES), axis=1),
        *np.sum(images.vectors(photos) * openai.encode_images([_open(photo) for photo in photos]), axis=1),
    ]
    reduced = np.sum(images.vectors(large) * openai.encode_images([_open(photo) for photo in large]), axis=1)
    return {"min_cosine_to_openai": float(min(parity)), "photo12mp_min_cosine": float(reduced.min())}


def _worker_peak_bytes(torchserve: TorchServe) -> int:
    assert torchserve.process is not None
    (worker,) = psutil.Process(torchserve.process.pid).children()
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _worker_start_s(torchserve: TorchServe) -> float:
    """From the death of the worker to the next one's first vector; TorchServe waits a second before it starts one."""
    started = time.monotonic()
    os.kill(torchserve.worker_pid(), signal.SIGKILL)
    while torchserve.predict(b"ready?", "text").status != 200:
        time.sleep(0.05)
    return time.monotonic() - started


def main() -> None:
    """Parse the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, fewer photographs: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="an archive of untrained weights")
    parser.add_argument("--cache", type=Path, default=weights.CACHE, help="where the archive's weights are cached")
    arguments = parser.parse_args()
    if not (arguments.model_store / "clip.mar").is_file():
        sys.exit(f"{arguments.model_store}/clip.mar is missing: make mar WEIGHTS=untrained")
    figures = run(arguments.model_store, arguments.cache, arguments.quick)
    print("\n" + "\n".join(tables.embedding(figures)))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
