"""Picture files as people really send them: what the model sees of each is what a viewer shows."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from clip_inputs import Refusal
from clip_limits import Limits
from clip_pictures import decode_image
from PIL import Image, ImageOps

from ..support.pictures import file, logo, scene
from ..support.seen import apart, seen_of

Pixels = npt.NDArray[np.uint8]


SCENE = scene()


GREY = SCENE.convert("L")


def _array(values: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(values)


def _lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert converted is not None
    return converted


def _levels() -> npt.NDArray[np.uint8]:
    return np.asarray(GREY)


# Each of Pillow's modes in a file that holds it: how it is made of the scene, and what of it has to be seen.
MODES: dict[str, tuple[str, Callable[[], Image.Image], Callable[[], Image.Image]]] = {
    "1": ("PNG", lambda: SCENE.convert("1"), lambda: SCENE.convert("1").convert("L")),
    "L": ("PNG", lambda: GREY, lambda: GREY),
    "LA": ("PNG", lambda: SCENE.convert("LA"), lambda: GREY),
    "P": ("PNG", lambda: SCENE.quantize(64), lambda: SCENE.quantize(64).convert("RGB")),
    "RGB": ("PNG", lambda: SCENE, lambda: SCENE),
    "RGBA": ("PNG", lambda: SCENE.convert("RGBA"), lambda: SCENE),
    "RGBX": ("TIFF", lambda: SCENE.convert("RGBX"), lambda: SCENE),
    "CMYK": ("TIFF", lambda: SCENE.convert("CMYK"), lambda: SCENE),
    "LAB": ("TIFF", lambda: _lab(SCENE), lambda: SCENE),
    "YCbCr": ("JPEG", lambda: SCENE.convert("YCbCr"), lambda: SCENE),
    "I;16": ("PNG", lambda: _array(_levels().astype(np.uint16) * 257), lambda: GREY),
    "I;16B": ("TIFF", lambda: _array((_levels().astype(np.uint16) * 257).astype(">u2")), lambda: GREY),
    "I": ("TIFF", lambda: _array(_levels().astype(np.int32) * 1000), lambda: ImageOps.autocontrast(GREY)),
    "F": ("TIFF", lambda: _array(_levels().astype(np.float32) / 255), lambda: ImageOps.autocontrast(GREY)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_shows_the_right_pixels(mode: str) -> None:
    kind, make, expected = MODES[mode]
    picture = make()
    assert picture.mode == mode
    right = np.asarray(decode_image(file(expected().convert("RGB"), "PNG"), Limits()), np.int16)
    assert apart(file(picture, kind), right) < (2.0 if mode in ("YCbCr", "LAB") else 0.6)
    assert right.std() > 20  # it is no blank that is compared


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_a_tiff_is_right_or_refused_by_name(planar: Any, compression: Any, dtype: str, tile: Any) -> None:
    rgb = np.asarray(SCENE)
    values = {"uint8": rgb, "uint16": rgb.astype(np.uint16) * 257, "float32": rgb.astype(np.float32) / 255}[dtype]
    if planar == "separate":
        values = np.ascontiguousarray(values.transpose(2, 0, 1))
    written = io.BytesIO()
    # tifffile compresses only with imagecodecs: Pillow's own writer makes those.
    if compression is not None:
        if planar == "separate" or dtype != "uint8" or tile is not None:
            pytest.skip("nothing here writes it")
        written.write(
            file(SCENE, "TIFF", compression={"deflate": "tiff_adobe_deflate", "lzw": "tiff_lzw"}[compression])
        )
    else:
        tifffile.imwrite(written, values, photometric="rgb", planarconfig=planar, tile=tile)
    try:
        seen = seen_of(written.getvalue())
    except Refusal as refusal:
        assert (refusal.status, refusal.code) == (415, "unsupported_image")  # noqa: PT017
        assert "a TIFF of a kind that cannot be read" in refusal.message  # noqa: PT017
        assert dtype == "float32" or (dtype == "uint16" and planar == "separate")
    else:
        assert dtype != "float32"
        assert np.abs(seen - seen_of(file(SCENE, "PNG"))).max() == 0


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_deep_grey_is_read_on_the_smallest_scale_that_holds_it(bits: int, kind: str) -> None:
    grey = np.asarray(ImageOps.autocontrast(GREY)).astype(np.uint16)
    deep = Image.fromarray(grey << (bits - 8))
    assert np.array_equal(seen_of(file(deep, kind)), seen_of(file(Image.fromarray(grey.astype(np.uint8)), "PNG")))


def test_what_is_hidden_by_transparency_does_not_count() -> None:
    mask = Image.new("L", SCENE.size)
    mask.paste(255, (80, 60, 240, 160))
    hidden = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*SCENE.size[::-1], 3), np.uint8))
    noisy = Image.composite(SCENE, hidden, mask).convert("RGBA")
    noisy.putalpha(mask)
    shown = Image.composite(SCENE, Image.new("RGB", SCENE.size, "white"), mask)
    assert apart(file(noisy, "PNG"), file(shown, "PNG")) < 0.5
    assert apart(file(noisy, "WEBP", lossless=True, exact=True), file(shown, "PNG")) < 0.5
    assert apart(file(noisy, "TIFF"), file(shown, "PNG")) < 0.5


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("colour", ["black", "white"])
def test_logos_are_told_apart_whatever_their_colour(mode: str, colour: str) -> None:
    star, ring = (file(logo(shape, colour).convert(mode), "PNG") for shape in ("star", "ring"))
    assert apart(star, ring) > 10
    on = "white" if colour == "black" else "black"
    flat = Image.new("RGB", (300, 300), on)
    flat.paste(Image.new("RGB", flat.size, colour), mask=logo("star", colour).getchannel("A"))
    assert apart(star, file(flat, "PNG")) < 1


def test_half_a_transparency_is_half_of_the_background() -> None:
    red = Image.new("RGBA", (300, 300), (200, 0, 0, 128))
    assert np.abs(seen_of(file(red, "PNG"))[100, 100] - (227, 127, 127)).max() <= 1
    assert (seen_of(file(Image.new("RGBA", (300, 300)), "PNG")) == 255).all()  # nothing is visible


def test_a_transparent_colour_or_palette_entry_is_the_background() -> None:
    red = Image.new("RGB", (300, 300), (255, 0, 0))
    red.paste((0, 0, 255), (0, 0, 150, 300))
    palette = red.quantize(4)
    index = palette.getpixel((0, 0))
    shown = red.copy()
    shown.paste((255, 255, 255), (0, 0, 150, 300))
    for data in (
        file(red, "PNG", transparency=(0, 0, 255)),
        file(palette, "PNG", transparency=index),
        file(palette, "GIF", transparency=index),
    ):
        assert apart(data, file(shown, "PNG")) < 0.5
