"""Photographs of the sizes archives get, made from those scikit-image ships."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def jpeg(path: Path, side: int) -> bytes:
    """A square JPEG of `side` pixels."""
    with Image.open(path) as image:
        return _encoded(ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC))


def twelve_megapixels(path: Path) -> bytes:
    """A JPEG of 4000 x 3000 pixels, with the grain of a camera: without it an enlarged picture decodes too fast."""
    with Image.open(path) as image:
        large = ImageOps.fit(image.convert("RGB"), (4000, 3000), Image.Resampling.BICUBIC)
    tile = np.random.default_rng(len(path.name)).normal(0, 4, (500, 500, 3)).round().astype(np.int8)
    grain = np.tile(tile, (6, 8, 1))
    pixels = np.asarray(large, np.int16)
    pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return _encoded(Image.fromarray(pixels))


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
