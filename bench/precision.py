"""What int8 costs in agreement and gains in time, in this process without HTTP: python -m bench.precision

A collection of fp32 vectors is asked with fp32 and with int8 vectors of the same queries; recall@10 is the share of the
fp32 answers that the int8 query finds as well. Untrained weights spread their vectors less than trained ones do, which
makes neighbours closer to each other and the test harder.
"""

from __future__ import annotations

import argparse
import io
import itertools
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
from clip_runtime import choose_runtime
from PIL import Image

from tests.support.samples import PHOTOGRAPHS, SENTENCES

_CROPS = 20
_WHO = ("a child", "an old man", "two women", "a dog", "a crowd", "the mayor", "a fisherman", "a nurse")
_DOES = ("waits", "sings", "runs", "sleeps", "argues", "works", "laughs", "reads")
_WHERE = ("in the harbour", "at the station", "on a roof", "by the river", "in a museum", "after the storm")


def _pixels() -> npt.NDArray[np.float32]:
    """(20 * _CROPS, 3, 224, 224): squares cut out of every photograph at seeded places."""
    numbers = np.random.default_rng(5)
    crops = []
    for path in PHOTOGRAPHS:
        with Image.open(path) as photograph:
            image = photograph.convert("RGB")
        for _ in range(_CROPS):
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


def _median_ms(work: Callable[[Any], object], argument: Any, times: int) -> float:
    work(argument)
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work(argument)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000


def main() -> None:
    """Embed, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=weights.CACHE, help="where untrained weights are cached")
    path = weights.untrained(parser.parse_args().cache).path
    tokenizer = clip_text.Tokenizer(clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz"))
    sentences = [" ".join(words) for words in itertools.product(_WHO, _DOES, _WHERE)] + SENTENCES
    texts, pixels = [tokenizer.tokenize(sentence.encode()).ids for sentence in sentences], _pixels()
    vectors, milliseconds = {}, {}
    for precision in ("fp32", "int8"):
        model = ClipModel(path, choose_runtime("openvino", precision, "cpu", 0), "quick_gelu")
        vectors[precision] = {"text": model.encode_texts(texts), "image": model.encode_images(pixels)}
        milliseconds[precision] = {
            "short text": _median_ms(model.encode_texts, texts[:1], 20),
            "image": _median_ms(model.encode_images, pixels[:1], 20),
            "8 images": _median_ms(model.encode_images, pixels[:8], 5),
        }
    for kind in ("text", "image"):
        cosines = np.sum(vectors["fp32"][kind] * vectors["int8"][kind], axis=1)
        print(f"int8 {kind}s: cosine to fp32 lowest {cosines.min():.6f}, mean {cosines.mean():.6f}")
    for query, stored in itertools.product(("text", "image"), repeat=2):
        recall = _recall(vectors["fp32"][query], vectors["int8"][query], vectors["fp32"][stored])
        print(f"recall@10 of int8 {query}s against {len(vectors['fp32'][stored])} fp32 {stored}s: {recall:.4f}")
    for name, base in milliseconds["fp32"].items():
        print(
            f"{name}: {base:.1f} ms in fp32, {milliseconds['int8'][name]:.1f} ms in int8, ratio"
            f" {base / milliseconds['int8'][name]:.2f}"
        )


if __name__ == "__main__":
    main()
