"""What bf16, fp16 and int8 cost in agreement and gain in time, in this process without HTTP: python -m bench.precision

A collection of fp32 vectors is asked with each precision's vectors of the same queries; recall@10 is the share of the
fp32 answers that such a query finds as well. Untrained weights spread their vectors less than trained ones do, which
makes neighbours closer to each other and the test harder.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clip_openai
import clip_pictures
import clip_text
import numpy as np
import numpy.typing as npt
import weights
from clip_inputs import Pixels
from clip_limits import Limits
from clip_model import ClipModel
from clip_runtime import choose_runtime, usable_cores
from PIL import Image
from tqdm import tqdm

from tests.support.samples import PHOTOGRAPHS, SENTENCES

from . import tables
from .ceilings import Ceilings
from .cpu import cpu_name

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_WHO = ("a child", "an old man", "two women", "a dog", "a crowd", "the mayor", "a fisherman", "a nurse")
_DOES = ("waits", "sings", "runs", "sleeps", "argues", "works", "laughs", "reads")
_WHERE = ("in the harbour", "at the station", "on a roof", "by the river", "in a museum", "after the storm")


def _pixels(crops_each: int) -> npt.NDArray[np.float32]:
    """(20 * crops_each, 3, 224, 224): squares cut out of every photograph at seeded places."""
    numbers = np.random.default_rng(5)
    crops = []
    for path in PHOTOGRAPHS:
        with Image.open(path) as photograph:
            image = photograph.convert("RGB")
        for _ in range(crops_each):
            side = int(min(image.size) * numbers.uniform(0.4, 1))
            left, top = (int(numbers.integers(0, room - side + 1)) for room in image.size)
            file = io.BytesIO()
            image.crop((left, top, left + side, top + side)).save(file, "BMP")
            crops.append(Pixels.of(clip_pictures.decode_image(file.getvalue(), Limits())).array)
    return np.stack(crops)


def _recall(truth: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], stored: npt.NDArray[np.float32]) -> float:
    found = np.argsort(-(queries @ stored.T), axis=1)[:, :10]
    right = np.argsort(-(truth @ stored.T), axis=1)[:, :10]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), right.tolist(), strict=True)]))


def _seconds(work: Callable[[Any], object], argument: Any) -> float:
    started = time.perf_counter()
    work(argument)
    return time.perf_counter() - started


def _milliseconds(models: dict[str, ClipModel], work: str, argument: Any, rounds: int) -> dict[str, float]:
    """Of each precision's model, the median; they take turns, forwards and backwards, each after a run of its own."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds):
        for name in sorted(models, reverse=bool(turn % 2)):
            call = getattr(models[name], work)
            call(argument)
            times[name] += [_seconds(call, argument) for _ in range(5)]
    return {name: statistics.median(taken) * 1000 for name, taken in times.items()}


def measure(path: Path, quick: bool) -> dict[str, Any]:
    """All figures, by precision."""
    tokenizer = clip_text.Tokenizer(clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz"))
    sentences = [" ".join(words) for words in itertools.product(_WHO, _DOES, _WHERE)] + SENTENCES
    texts, pixels = [tokenizer.tokenize(sentence.encode()).ids for sentence in sentences], _pixels(2 if quick else 20)
    models = {
        name: ClipModel(path, choose_runtime("openvino", name, "cpu", 0), "quick_gelu")
        for name in tqdm(PRECISIONS, "load")
    }
    vectors = {
        name: {"text": model.encode_texts(texts), "image": model.encode_images(pixels)}
        for name, model in tqdm(models.items(), "embed")
    }
    rounds = 1 if quick else 6
    taken = {
        "short_text_ms": _milliseconds(models, "encode_texts", texts[:1], rounds),
        "image_ms": _milliseconds(models, "encode_images", pixels[:1], rounds),
        "images8_ms": _milliseconds(models, "encode_images", pixels[:8], rounds),
    }
    ceilings, truth, figures = Ceilings(usable_cores()), vectors["fp32"], {}
    for name, own in vectors.items():
        pairs = list(itertools.product(("text", "image"), repeat=2))
        recalls = {pair: _recall(truth[pair[0]], own[pair[0]], truth[pair[1]]) for pair in pairs}
        text_to_image = recalls.pop(("text", "image"))
        figures[name] = {key: times[name] for key, times in taken.items()} | {
            "ceiling_gflops_per_s": ceilings.flops_per_s(name) / 1e9,
            "ceiling_library": ceilings.libraries[name],
            "min_cosine": min(float(np.sum(truth[kind] * own[kind], axis=1).min()) for kind in own),
            "recall_text_image": text_to_image,
            "recall_lowest_other": min(recalls.values()),
        }
    fast = choose_runtime("openvino", "fast", "cpu", 0).precision
    return {"cpu": cpu_name(), "cores": usable_cores(), "fast": fast, "precisions": figures}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument("--cache", type=Path, default=weights.CACHE, help="where untrained weights are cached")
    arguments = parser.parse_args()
    figures = measure(weights.untrained(arguments.cache).path, arguments.quick)
    print("\n".join(tables.precision(figures)))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
