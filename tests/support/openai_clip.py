"""The oracle: OpenAI's own `clip`, on the same weights, in this process.

`clip.clip` imports torchvision, which is not part of the product's closure; what it uses of it is written here after
torchvision's documentation for PIL images, so that OpenAI's `_transform` and `tokenize` themselves run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file


def _resize(size: int, interpolation: Image.Resampling) -> Callable[[Image.Image], Image.Image]:
    def resize(image: Image.Image) -> Image.Image:
        width, height = image.size
        if width < height:
            return image.resize((size, int(size * height / width)), interpolation)
        return image.resize((int(size * width / height), size), interpolation)

    return resize


def _centre_crop(size: int) -> Callable[[Image.Image], Image.Image]:
    def crop(image: Image.Image) -> Image.Image:
        left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
        return image.crop((left, top, left + size, top + size))

    return crop


def _compose(steps: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def composed(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return composed


def _to_tensor() -> Callable[[Image.Image], torch.Tensor]:
    return lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)


def _normalize(mean: Sequence[float], std: Sequence[float]) -> Callable[[torch.Tensor], torch.Tensor]:
    def normalize(tensor: torch.Tensor) -> torch.Tensor:
        return (tensor - torch.tensor(mean).reshape(-1, 1, 1)) / torch.tensor(std).reshape(-1, 1, 1)

    return normalize


def _import_clip() -> Any:
    transforms = ModuleType("torchvision.transforms")
    vars(transforms).update(Compose=_compose, Resize=_resize, CenterCrop=_centre_crop)
    vars(transforms).update(ToTensor=_to_tensor, Normalize=_normalize)
    shim = ModuleType("torchvision")
    vars(shim).update(transforms=transforms)
    sys.modules.update({"torchvision": shim, "torchvision.transforms": transforms})
    try:
        import clip.clip
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.transforms"]
    return clip.clip


class OpenAIClip:
    """`clip.load` on given weights: encode_image and encode_text, normalised."""

    def __init__(self, weights: Path) -> None:
        self._clip = _import_clip()
        self._model = self._clip.build_model(dict(load_file(weights))).float().eval()
        self._transform = self._clip._transform(224)

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        tensor: torch.Tensor = self._transform(image)
        return tensor

    def tokenize(self, text: str) -> torch.Tensor:
        return self._tokenize([text])

    def _tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        tokens: torch.Tensor = self._clip.tokenize(list(texts), truncate=True)
        return tokens

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        return _unit_rows(self._model.encode_image(torch.stack([self.preprocess(image) for image in images])))

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return _unit_rows(self._model.encode_text(self._tokenize(texts)))

    @torch.inference_mode()
    def encode_pixels(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the model makes of one (3, 224, 224) array that is preprocessed already."""
        row: npt.NDArray[np.float32] = _unit_rows(self._model.encode_image(torch.from_numpy(pixels)[None]))[0]
        return row

    def encode_image(self, image: Image.Image) -> npt.NDArray[np.float32]:
        row: npt.NDArray[np.float32] = self.encode_images([image])[0]
        return row

    def encode_text(self, text: str) -> npt.NDArray[np.float32]:
        row: npt.NDArray[np.float32] = self.encode_texts([text])[0]
        return row


def _unit_rows(features: torch.Tensor) -> npt.NDArray[np.float32]:
    rows: npt.NDArray[np.float32] = torch.nn.functional.normalize(features, dim=1).numpy()
    return rows
