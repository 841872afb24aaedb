"""Pictures whose file says how they are to be turned, and files in which that is broken."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from ..support.pictures import chunk, file, scene, turned, with_chunks
from ..support.seen import apart, seen_of

SCENE = scene()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_in_every_format_that_has_one(kind: str, orientation: int) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind != "TIFF" else {}
    stored = turned(SCENE, orientation, kind, **options)
    if kind in ("PNG", "WEBP", "TIFF"):
        assert np.array_equal(seen_of(stored), seen_of(file(SCENE, "PNG")))
    else:
        assert apart(stored, file(SCENE, "PNG")) < 3
        wrong = file(ImageOps.mirror(SCENE), "PNG")
        assert apart(stored, wrong) > 20


def test_in_a_heic_only_its_own_box_turns() -> None:
    """As in all viewers: cameras write EXIF's tag beside it, and both together would turn twice."""
    stored = turned(SCENE, 6, "HEIF", quality=95)
    assert apart(stored, file(SCENE.transpose(Image.Transpose.ROTATE_90), "PNG")) < 3


@pytest.mark.parametrize("mode", ["RGB", *(pytest.param(each, marks=pytest.mark.slow) for each in ("L", "RGBA"))])
def test_turning_the_small_picture_is_turning_the_large_one_to_the_bit(mode: str) -> None:
    numbers = np.random.default_rng(6)
    for _ in range(8):
        width, height = (int(side) for side in numbers.integers(1, 700, 2))
        noise = Image.fromarray(numbers.integers(0, 256, (height, width, 4), np.uint8), "RGBA").convert(mode)
        right = seen_of(file(noise, "PNG"))
        for orientation in range(2, 9):
            assert np.array_equal(seen_of(turned(noise, orientation, "PNG")), right), (width, height, orientation)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # the decoders' processes say nothing
@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff garbage", b"Exif\0\0", b"II*\0", b"\0" * 40])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_loses_only_the_turn(kind: str, exif: bytes) -> None:
    assert np.array_equal(seen_of(file(SCENE, kind, exif=exif)), seen_of(file(SCENE, kind)))


@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_an_orientation_that_is_none_is_ignored(value: int) -> None:
    stored = file(SCENE, "TIFF", tiffinfo={274: value})
    assert np.array_equal(seen_of(stored), seen_of(file(SCENE, "PNG")))


def test_a_png_keeps_the_orientation_that_stands_in_its_texts() -> None:
    stored = turned(SCENE, 6, "PNG")
    exif = Image.Exif()
    exif[274] = 6
    raw = exif.tobytes()
    text = f"\nexif\n{len(raw):8}\n{raw.hex()}\n".encode()
    with Image.open(io.BytesIO(stored)) as image:
        bare = file(image.convert("RGB"), "PNG", exif=b"")
    old = with_chunks(bare, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    assert np.array_equal(seen_of(old), seen_of(file(SCENE, "PNG")))
