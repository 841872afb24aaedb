"""Any Pillow mode -> what a viewer shows, in a mode that can be resized, and from there to RGB.

Two steps, because resizing lies between them: `resizable` gives a mode whose numbers may be averaged, `shown` turns the
small picture into RGB. Opaque RGB, grey and CMYK pictures are resized as they are, as OpenAI's transform does.
`index_sidecar/embedding/previews.py` follows the same rules for what it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageStat

# What is visible is taken for a white logo, and put on black, from this mean luminance on. The rest is put on white.
NEARLY_WHITE = 0.8
_GREY_BITS = (10, 12, 14, 16)
_ROWS_AT_ONCE = 256


def resizable(image: Image.Image) -> Image.Image:
    """A loaded picture -> mode L, RGB or CMYK, or La or RGBa (premultiplied) where it has transparency."""
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _grey(image)
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is None only for conversions in place
        return converted
    if mode in ("La", "RGBa", "L", "RGB", "CMYK") and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        grey = mode in ("1", "L", "LA")
        # Averages of premultiplied colours do not count what is hidden.
        straight, premultiplied = ("LA", "La") if grey else ("RGBA", "RGBa")
        if mode != straight:
            image = image.convert(straight)
        return image.convert(premultiplied)
    return image.convert("L" if mode == "1" else "RGB")


def background(image: Image.Image) -> int:
    """0 or 255 for a `resizable` picture: black behind what is nearly white, white behind all else."""
    if image.mode not in ("La", "RGBa"):
        return 255
    *colours, alpha = ImageStat.Stat(image).sum
    weights = (1.0,) if image.mode == "La" else (0.299, 0.587, 0.114)
    luminance = sum(weight * colour for weight, colour in zip(weights, colours, strict=True))
    return 0 if luminance > NEARLY_WHITE * alpha else 255


def shown(image: Image.Image, behind: int) -> Image.Image:
    """A `resizable` picture, resized -> RGB, what is transparent in it on the grey `behind`."""
    if image.mode not in ("La", "RGBa"):
        return image.convert("RGB")
    *colours, alpha = image.split()
    through = np.asarray(alpha, np.uint16)
    # Bicubic overshoots: a premultiplied colour may come out above its alpha.
    light = (255 - through) * behind // 255
    bands = [np.minimum(np.minimum(np.asarray(colour), through) + light, 255).astype(np.uint8) for colour in colours]
    return Image.fromarray(np.dstack(bands if len(bands) == 3 else bands * 3))


def _grey(image: Image.Image) -> Image.Image:
    """More than 8 bits of grey -> L.

    16-bit files often hold 10, 12 or 14 bits (microscopes, X-ray): the smallest of these that holds the largest value
    is the scale. Nothing tells the scale of 32-bit and floating-point files: what is there is stretched over the range.
    """
    lowest, highest = _range(image)
    if image.mode.startswith("I;16"):
        bits = next(bits for bits in _GREY_BITS if highest < 1 << bits)
        return _by_strips(image, lambda strip: strip >> (bits - 8))
    span = highest - lowest
    scale = 255.0 / span if span else 0.0
    floating = np.float32 if span < np.finfo(np.float32).max else np.float64  # twice as slow

    def stretched(strip: npt.NDArray[Any]) -> npt.NDArray[Any]:
        finite = np.nan_to_num(strip.astype(floating), copy=False, nan=lowest, posinf=highest, neginf=lowest)
        finite -= floating(lowest)
        finite *= floating(scale)
        clipped: npt.NDArray[Any] = np.clip(finite, 0, 255, out=finite)
        return clipped

    return _by_strips(image, stretched)


def _range(image: Image.Image) -> tuple[float, float]:
    """The lowest and the highest finite value; zeros where there is none."""
    ranges = []
    for _, strip in _strips(image):
        finite = strip[np.isfinite(strip)]
        if finite.size:
            ranges.append((float(finite.min()), float(finite.max())))
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (0.0, 0.0)


def _by_strips(image: Image.Image, grey: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Image.Image:
    result = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        result[top : top + _ROWS_AT_ONCE] = grey(strip)
    return Image.fromarray(result)


def _strips(image: Image.Image) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """(first row, values) of parts of the picture: all of it in numpy would take its memory a second time."""
    for top in range(0, image.height, _ROWS_AT_ONCE):
        yield top, np.asarray(image.crop((0, top, image.width, min(top + _ROWS_AT_ONCE, image.height))))
