"""Picture files -> arrays, against OpenAI's own transform."""

from __future__ import annotations

import io
import time
from pathlib import Path

import clip_inputs
import clip_limits
import clip_pictures
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ..support.openai_clip import OpenAIClip
from ..support.samples import PHOTOGRAPHS

MAX_PIXELS = 10_000_000
COFFEE = next(path for path in PHOTOGRAPHS if path.name == "coffee.png")


def _pixels(data: bytes, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.float32]:
    limits = clip_limits.Limits(max_pixels=max_pixels)
    return clip_inputs.Pixels.of(clip_pictures.decode_image(data, limits)).array


def _file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _status(data: bytes) -> int:
    try:
        _pixels(data)
    except clip_inputs.Refusal as refusal:
        return refusal.status
    return 200


REDUCED = [path for path in PHOTOGRAPHS if path.stem == "retina"]  # the one JPEG of four times the pixels needed


@pytest.mark.parametrize("path", [path for path in PHOTOGRAPHS if path not in REDUCED], ids=lambda path: path.stem)
def test_photographs_come_out_as_from_openai(openai_clip: OpenAIClip, path: Path) -> None:
    data = path.read_bytes()
    ours = _pixels(data)
    theirs = openai_clip.preprocess(Image.open(io.BytesIO(data))).numpy()
    # One grey level of 255 is 0.0146 after normalisation; rounding in the resize may differ by one here and there.
    assert np.abs(ours - theirs).max() < 0.016
    assert np.abs(ours - theirs).mean() < 1e-4


@pytest.mark.parametrize("path", REDUCED, ids=lambda path: path.stem)
def test_a_large_jpeg_decoded_at_reduced_scale_hardly_differs(openai_clip: OpenAIClip, path: Path) -> None:
    ours = _pixels(path.read_bytes())
    theirs = openai_clip.preprocess(Image.open(path)).numpy()
    assert np.abs(ours - theirs).mean() < 0.016  # one grey level
    assert float(openai_clip.encode_pixels(ours) @ openai_clip.encode_pixels(theirs)) >= 0.9999


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (223, 224), (225, 999), (640, 480), (3, 2)])
def test_any_size_comes_out_as_from_openai(openai_clip: OpenAIClip, size: tuple[int, int]) -> None:
    with Image.open(COFFEE) as image:
        picture = image.resize(size)
    ours = _pixels(_file(picture, "PNG"))
    assert np.abs(ours - openai_clip.preprocess(picture).numpy()).max() < 0.016


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_first(orientation: int) -> None:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    with Image.open(COFFEE) as image:
        upright = image.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = _file(upright.transpose(undo) if undo is not None else upright, "PNG", exif=exif)
    expected = _pixels(_file(upright, "PNG"))
    assert np.array_equal(_pixels(stored), expected)


def test_broken_exif_loses_only_the_orientation() -> None:
    with Image.open(COFFEE) as image:
        rgb = image.convert("RGB")
    broken = _file(rgb, "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert np.array_equal(_pixels(broken), _pixels(_file(rgb, "PNG")))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    red, blue = (Image.new("RGB", (300, 300), colour) for colour in ("red", "blue"))
    animation = _file(red, kind, save_all=True, append_images=[blue], lossless=True)
    array = _pixels(animation)
    assert array[0].mean() > 1.5 > 0 > array[2].mean()


def test_the_pixel_cap_is_checked_before_decoding() -> None:
    data = _file(Image.new("1", (4000, 4000)), "PNG")
    before = time.thread_time()
    with pytest.raises(clip_inputs.Refusal, match="4000x4000") as caught:
        _pixels(data[:200], 15_999_999)  # the header is enough: there is nothing to decode
    assert (caught.value.status, caught.value.code) == (413, "too_many_pixels")
    assert time.thread_time() - before < 0.1
    assert _pixels(data, 16_000_000).shape == (3, 224, 224)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"])
def test_every_truncation_is_refused(kind: str) -> None:
    """Cut anywhere, a file is refused; only some of what closes a file may be missing."""
    with Image.open(COFFEE) as image:
        data = _file(image.convert("RGB").resize((60, 40)), kind)
    for end in range(0, len(data), max(1, len(data) // 200)):
        if (status := _status(data[:end])) == 200:
            assert len(data) - end <= 16  # the empty chunk at a PNG's end, a GIF's trailer
        else:
            assert status in (400, 415)


def test_every_corruption_is_an_answer() -> None:
    random = np.random.default_rng(7)
    with Image.open(COFFEE) as image:
        files = [_file(image.convert("RGB").resize((60, 40)), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF")]
    for data in files * 40:
        broken = bytearray(data)
        for place in random.integers(0, len(data), 5):
            broken[place] = random.integers(256)
        assert _status(bytes(broken)) in (200, 400, 413, 415)
