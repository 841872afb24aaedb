"""The towers without HTTP: ours, OpenAI's module and plain ONNX Runtime, on the same weights and in turn."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clip_openai
import clip_text
import numpy as np
import onnxruntime
import torch
from clip_model import ClipModel
from clip_runtime import choose_runtime, usable_cores
from safetensors.torch import load_file
from tqdm import tqdm

from .ceilings import Ceilings

# Multiply-adds of ViT-B/32's image tower as our graph computes it, twice: 49 patches, 11 whole blocks of 50 tokens, and
# of the last block keys and values for all tokens but the rest for one.
_BLOCK_FLOPS = 2 * 12 * 768 * 768
_ATTENTION_FLOPS = 2 * 2 * 768 * 50
IMAGE_FLOPS = (
    2 * 49 * 3072 * 768
    + 11 * 50 * (_BLOCK_FLOPS + _ATTENTION_FLOPS)
    + 50 * _BLOCK_FLOPS // 6
    + _BLOCK_FLOPS * 5 // 6
    + _ATTENTION_FLOPS
    + 2 * 768 * 512
)
_IMAGES = 16
_TEXT = b"a photo of a cat in the harbour"


class _Tower(torch.nn.Module):
    def __init__(self, encode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._encode = encode

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self._encode(inputs), dim=1)


def _onnx(clip: Any, folder: Path, tower: str, example: torch.Tensor) -> onnxruntime.InferenceSession:
    """PyTorch's export of OpenAI's module, as it comes, opened with ONNX Runtime's defaults."""
    module = _Tower(getattr(clip, f"encode_{tower}"))
    module.clip = clip  # its parameters become the graph's
    path = folder / f"{tower}.onnx"
    names: dict[str, Any] = {"input_names": ["inputs"], "output_names": ["vectors"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, and of the exporter's successor, which needs more packages
        axes = {"inputs": {0: "rows"}, "vectors": {0: "rows"}}
        torch.onnx.export(module, (example,), path, dynamo=False, dynamic_axes=axes, opset_version=17, **names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(weights: Path, folder: Path, ceilings: Ceilings, rounds: int) -> dict[str, float]:
    """Milliseconds of a short text and of an image in a batch of 16, of each side; of ours the share of the ceiling."""
    clip = clip_openai.model().build_model(dict(load_file(weights))).float().eval()
    ours = ClipModel(weights, choose_runtime("auto", "fp32", "cpu", 0), "quick_gelu")
    tokens = clip_text.Tokenizer(clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz")).tokenize(_TEXT).ids
    padded = torch.zeros((1, 77), dtype=torch.long)
    padded[0, : len(tokens)] = torch.tensor(tokens)
    pixels = np.random.default_rng(3).standard_normal((_IMAGES, 3, 224, 224), np.float32)
    text_onnx, image_onnx = _onnx(clip, folder, "text", padded), _onnx(clip, folder, "image", torch.from_numpy(pixels))
    sides: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "ours": (lambda: ours.encode_texts([tokens]), lambda: ours.encode_images(pixels)),
        "openai": (lambda: clip.encode_text(padded), lambda: clip.encode_image(torch.from_numpy(pixels))),
        "onnxruntime": (
            lambda: text_onnx.run(None, {"inputs": padded.numpy()})[0],
            lambda: image_onnx.run(None, {"inputs": pixels})[0],
        ),
    }
    assert float(np.sum(sides["ours"][0]() * sides["onnxruntime"][0]())) > 0.9999  # all do the same work
    assert np.sum(sides["ours"][1]() * sides["onnxruntime"][1](), axis=1).min() > 0.9999
    text_s: dict[str, list[float]] = {name: [] for name in sides}
    image_s: dict[str, list[float]] = {name: [] for name in sides}
    roofs = []
    with torch.inference_mode():
        for turn in tqdm(range(rounds), "in process"):
            for name in sorted(sides, reverse=bool(turn % 2)):
                text_s[name] += _times(sides[name][0], 10)
                image_s[name] += _times(sides[name][1], 1)
                if name == "ours":
                    roofs.append(image_s[name][-1] / _IMAGES * ceilings.flops_per_s())
    figures = {f"in_process_{name}_short_text_ms": 1000 * statistics.median(times) for name, times in text_s.items()}
    figures |= {f"in_process_{name}_image_ms": 1000 * statistics.median(t) / _IMAGES for name, t in image_s.items()}
    return figures | {"in_process_image_sgemm_fraction": statistics.median(IMAGE_FLOPS / roof for roof in roofs)}


def _times(work: Callable[[], Any], count: int) -> list[float]:
    work()  # each side is as warm as the other when its time is taken
    times = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times
