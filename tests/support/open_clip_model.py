"""A second oracle: open_clip's model code, which LAION's and DataComp's weights were trained with, in this process.

`import open_clip` wants torchvision, timm and huggingface-hub, none of which a ViT needs; so its model module is
imported without the package's `__init__`, and torchvision is one class, for freezing batch norms, which ViTs lack.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file


def _import_model() -> Any:
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    package = ModuleType("open_clip")
    package.__path__ = list(spec.submodule_search_locations or [])
    misc = ModuleType("torchvision.ops.misc")
    vars(misc).update(FrozenBatchNorm2d=type("FrozenBatchNorm2d", (torch.nn.Module,), {}))
    shims = {"torchvision": ModuleType("torchvision"), "torchvision.ops": ModuleType("torchvision.ops")}
    shims |= {"torchvision.ops.misc": misc, "open_clip": package}
    sys.modules.update(shims)
    try:
        return importlib.import_module("open_clip.model")
    finally:
        for name in shims:
            del sys.modules[name]


class OpenClip:
    """open_clip's `CLIP` in the shape of its model_configs/ViT-B-32.json, on a state dict in OpenAI's names."""

    def __init__(self, weights: Path, activation: Literal["quick_gelu", "gelu"]) -> None:
        module = _import_model()
        vision = module.CLIPVisionCfg(image_size=224, layers=12, width=768, patch_size=32)
        text = module.CLIPTextCfg(context_length=77, vocab_size=49408, width=512, heads=8, layers=12)
        self._model = module.CLIP(512, vision, text, quick_gelu=activation == "quick_gelu").eval()
        self._model.load_state_dict(load_file(weights), strict=True)

    def state_dict(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = self._model.state_dict()
        return tensors

    @torch.inference_mode()
    def encode_tokens(self, texts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        padded = torch.zeros((len(texts), 77), dtype=torch.long)
        for row, text in enumerate(texts):
            padded[row, : len(text)] = torch.tensor(text)
        rows: npt.NDArray[np.float32] = self._model.encode_text(padded, normalize=True).numpy()
        return rows

    @torch.inference_mode()
    def encode_pixels(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        rows: npt.NDArray[np.float32] = self._model.encode_image(torch.from_numpy(pixels), normalize=True).numpy()
        return rows
