"""CLIP ViT-B/32 as a function from arrays to unit vectors, whatever runs it (https://arxiv.org/abs/2103.00020)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from clip_runtime import Runtime

Vectors = npt.NDArray[np.float32]

# Reading a tower's weights costs as much as computing this many tokens, so a batch is split where the padding of
# short texts to the length of the longest would cost more than a second pass (`bench/embedding.py` measures it).
_PASS_TOKENS = 12


class Towers(Protocol):
    """What a runtime gives: each batch in one pass, rows of unit length."""

    def images(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """(n, 3, 224, 224) -> (n, 512)."""

    def texts(self, tokens: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]) -> Vectors:
        """(n, length) tokens, padded behind the end token whose place `ends` gives -> (n, 512)."""


class ClipModel:
    """The two towers, loaded once from a safetensors state dict in OpenAI's naming.

    `activation` is what the weights were trained with: "quick_gelu", x * sigmoid(1.702 x), or "gelu", by the error
    function (https://arxiv.org/abs/1606.08415).
    """

    def __init__(self, weights: Path, runtime: Runtime, activation: str) -> None:
        self._towers = _open(weights, runtime, activation)

    def encode_images(self, images: npt.NDArray[np.float32]) -> Vectors:
        """(n, 3, 224, 224) float32, normalised -> (n, 512) float32, rows of unit length."""
        return self._towers.images(images)

    def encode_texts(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """n token lists with start and end, of at most 77 -> (n, 512) float32, rows of unit length.

        Attention is causal and a text's vector is read at its end token, so nothing behind that token matters: each
        pass is only as long as its longest text, and short texts do not share a pass with long ones. Exact.
        """
        # OpenAI's code reads the vector at the first end token (its argmax), also of one that a text spells out.
        texts = [text[: text.index(max(text)) + 1] for text in texts]
        vectors = np.empty((len(texts), 512), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for rows in passes(order, [len(text) for text in texts]):
            tokens = np.zeros((len(rows), len(texts[rows[-1]])), np.int32)
            for place, row in enumerate(rows):
                tokens[place, : len(texts[row])] = texts[row]
            ends = np.array([len(texts[row]) - 1 for row in rows], np.int32)
            vectors[rows] = self._towers.texts(tokens, ends)
        return vectors


def passes(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Split rows in ascending order of their lengths into passes such that the tokens computed are fewest.

    A pass costs its rows times its longest length, and _PASS_TOKENS; dynamic programming over the places to cut.
    """
    best: list[tuple[int, int]] = [(0, 0)]  # for the first n rows: their cost, and where their last pass begins
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        costs = ((best[start][0] + (end - start) * longest + _PASS_TOKENS, start) for start in range(end))
        best.append(min(costs))
    cuts, end = [], len(order)
    while end:
        start = best[end][1]
        cuts.append(list(order[start:end]))
        end = start
    return cuts[::-1]


def _open(weights: Path, runtime: Runtime, activation: str) -> Towers:
    # Neither runtime is imported where the other one serves: each takes a second and 200 MB.
    if runtime.name == "openvino":
        import clip_openvino

        return clip_openvino.OpenVinoTowers(weights, runtime.threads, runtime.precision, activation)
    import clip_torch

    return clip_torch.TorchTowers(weights, runtime.device, runtime.threads, runtime.precision, activation)
