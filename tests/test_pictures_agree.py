"""What the model sees of a picture and what its preview shows are the same, though no code is shared."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from clip_limits import Limits
from clip_pictures import decode_image
from PIL import Image, ImageCms

from index_sidecar.embedding.previews import preview_of_image

from .support.pictures import file, logo, scene, turned

SQUARE = scene(400, 400)


def _deep(bits: int) -> Image.Image:
    return Image.fromarray(np.asarray(SQUARE.convert("L")).astype(np.uint16) << (bits - 8))


def _half_transparent() -> Image.Image:
    image = SQUARE.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SQUARE.size))
    return image


FILES: dict[str, Callable[[], bytes]] = {
    **{f"turned {turn}": lambda turn=turn: turned(SQUARE, turn, "PNG") for turn in range(1, 9)},  # type: ignore[misc]
    **{f"TIFF turned {turn}": lambda turn=turn: turned(SQUARE, turn, "TIFF") for turn in (3, 6)},  # type: ignore[misc]
    **{f"grey of {bits} bits": lambda bits=bits: file(_deep(bits), "PNG") for bits in (10, 12, 14, 16)},  # type: ignore[misc]
    "black logo": lambda: file(logo("star", "black"), "PNG"),
    "white logo": lambda: file(logo("star", "white"), "PNG"),
    "grey logo": lambda: file(logo("ring", "white").convert("LA"), "PNG"),
    "palette logo": lambda: file(logo("ring", "white").convert("P"), "PNG"),
    "half transparent": lambda: file(_half_transparent(), "PNG"),
    "half transparent WebP": lambda: file(_half_transparent(), "WEBP", lossless=True),
    "palette": lambda: file(SQUARE.quantize(32), "PNG"),
    "one bit": lambda: file(SQUARE.convert("1"), "PNG"),
    "CMYK": lambda: file(SQUARE.convert("CMYK"), "JPEG", quality=95),
    "float": lambda: file(Image.fromarray(np.asarray(SQUARE.convert("L"), np.float32) / 7), "TIFF"),
    "integers": lambda: file(Image.fromarray(np.asarray(SQUARE.convert("L")).astype(np.int32) * 999), "TIFF"),
    "HEIC": lambda: file(SQUARE, "HEIF", quality=90),
    "AVIF": lambda: file(SQUARE, "AVIF", quality=90),
    "GIF": lambda: file(SQUARE, "GIF"),
}


def _shown(data: bytes) -> npt.NDArray[np.int16]:
    preview = preview_of_image(data)
    assert preview is not None
    with Image.open(io.BytesIO(preview)) as image:
        return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC), np.int16)


def _blocks(picture: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """Means of 8 x 8 pixels."""
    means: npt.NDArray[np.float64] = picture.reshape(28, 8, 28, 8, 3).mean(axis=(1, 3))
    return means


@pytest.mark.parametrize("name", FILES)
def test_the_model_and_the_preview_see_the_same(name: str) -> None:
    data = FILES[name]()
    seen = decode_image(data, Limits()).astype(np.int16)
    assert seen.std() > 20
    # In blocks: the dots of a one-bit picture are others at another size.
    assert np.abs(_blocks(seen) - _blocks(_shown(data))).mean() < 3


def test_only_the_preview_heeds_a_colour_profile() -> None:
    """Red and blue stored swapped, with a profile that swaps them back: as P3 and Adobe RGB, but easier to see."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    tags = {bytes(profile[132 + 12 * n : 136 + 12 * n]): 136 + 12 * n for n in range(count)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    swapped = Image.merge("RGB", SQUARE.split()[::-1])
    right, stored = (decode_image(file(each, "PNG"), Limits()).astype(np.int16) for each in (SQUARE, swapped))
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        data = file(swapped, kind, icc_profile=bytes(profile))
        assert np.abs(_shown(data) - right).mean() < 6, kind
        assert np.abs(decode_image(data, Limits()) - stored).mean() < 3, kind
        assert np.abs(_shown(file(swapped, kind, icc_profile=b"no profile")) - stored).mean() < 6, kind
