"""Bytes -> arrays, against OpenAI's own transform and tokenizer."""

from __future__ import annotations

import io
import time
from pathlib import Path

import clip_inputs
import clip_openai
import numpy as np
import pytest
import torch
from PIL import Image

from ..support.openai_clip import OpenAIClip
from ..support.samples import PHOTOGRAPHS, SENTENCES

MAX_PIXELS = 10_000_000
TOKENIZER = clip_inputs.Tokenizer(clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz"))
COFFEE = next(path for path in PHOTOGRAPHS if path.name == "coffee.png")


def _file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _status(data: bytes) -> int:
    try:
        clip_inputs.decode_image(data, MAX_PIXELS)
    except clip_inputs.UnreadableInput as refusal:
        return refusal.status
    return 200


REDUCED = [path for path in PHOTOGRAPHS if path.stem == "retina"]  # the one JPEG of four times the pixels needed


@pytest.mark.parametrize("path", [path for path in PHOTOGRAPHS if path not in REDUCED], ids=lambda path: path.stem)
def test_photographs_come_out_as_from_openai(openai_clip: OpenAIClip, path: Path) -> None:
    data = path.read_bytes()
    ours = clip_inputs.decode_image(data, MAX_PIXELS)
    theirs = openai_clip.preprocess(Image.open(io.BytesIO(data))).numpy()
    # One grey level of 255 is 0.0146 after normalisation; rounding in the resize may differ by one here and there.
    assert np.abs(ours - theirs).max() < 0.016
    assert np.abs(ours - theirs).mean() < 1e-4


@pytest.mark.parametrize("path", REDUCED, ids=lambda path: path.stem)
def test_a_large_jpeg_decoded_at_reduced_scale_hardly_differs(openai_clip: OpenAIClip, path: Path) -> None:
    ours = clip_inputs.decode_image(path.read_bytes(), MAX_PIXELS)
    theirs = openai_clip.preprocess(Image.open(path)).numpy()
    assert np.abs(ours - theirs).mean() < 0.016  # one grey level
    assert float(openai_clip.encode_pixels(ours) @ openai_clip.encode_pixels(theirs)) >= 0.9999


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (223, 224), (225, 999), (640, 480), (3, 2)])
def test_any_size_comes_out_as_from_openai(openai_clip: OpenAIClip, size: tuple[int, int]) -> None:
    with Image.open(COFFEE) as image:
        picture = image.resize(size)
    ours = clip_inputs.decode_image(_file(picture, "PNG"), MAX_PIXELS)
    assert np.abs(ours - openai_clip.preprocess(picture).numpy()).max() < 0.016


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F", "YCbCr"])
def test_every_mode_is_read(mode: str) -> None:
    with Image.open(COFFEE) as image:
        rgb = image.convert("RGB")
    grey = np.asarray(rgb.convert("L"))
    special = {
        "I;16": lambda: Image.fromarray(grey.astype(np.uint16) << 8),
        "I": lambda: Image.fromarray(grey.astype(np.int32) * 1000),
        "F": lambda: Image.fromarray(grey.astype(np.float32) / 255),
        "LAB": lambda: Image.frombytes("LAB", rgb.size, rgb.tobytes()),
    }
    picture = special[mode]() if mode in special else rgb.convert(mode)
    kind = "JPEG" if mode == "YCbCr" else "PNG" if mode == "I;16" else "TIFF"
    array = clip_inputs.decode_image(_file(picture, kind), MAX_PIXELS)
    plain = clip_inputs.decode_image(_file(rgb.convert("L"), "PNG"), MAX_PIXELS)
    assert array.shape == (3, 224, 224)
    assert np.isfinite(array).all()
    if mode in ("I;16", "I", "F", "L", "LA"):
        assert np.corrcoef(array.ravel(), plain.ravel())[0, 1] > 0.99


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
    expected = clip_inputs.decode_image(_file(upright, "PNG"), MAX_PIXELS)
    assert np.array_equal(clip_inputs.decode_image(stored, MAX_PIXELS), expected)


def test_broken_exif_loses_only_the_orientation() -> None:
    with Image.open(COFFEE) as image:
        rgb = image.convert("RGB")
    broken = _file(rgb, "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert np.array_equal(
        clip_inputs.decode_image(broken, MAX_PIXELS), clip_inputs.decode_image(_file(rgb, "PNG"), MAX_PIXELS)
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    red, blue = (Image.new("RGB", (300, 300), colour) for colour in ("red", "blue"))
    animation = _file(red, kind, save_all=True, append_images=[blue], lossless=True)
    array = clip_inputs.decode_image(animation, MAX_PIXELS)
    assert array[0].mean() > 1.5 > 0 > array[2].mean()


def test_the_pixel_cap_is_checked_before_decoding() -> None:
    data = _file(Image.new("1", (4000, 4000)), "PNG")
    before = time.perf_counter()
    with pytest.raises(clip_inputs.UnreadableInput, match="4000x4000") as caught:
        clip_inputs.decode_image(data[:200], 15_999_999)  # the header is enough: there is nothing to decode
    assert (caught.value.status, caught.value.code) == (413, "too_many_pixels")
    assert time.perf_counter() - before < 0.1
    assert clip_inputs.decode_image(data, 16_000_000).shape == (3, 224, 224)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_truncation_is_an_answer(kind: str) -> None:
    """Cut anywhere, a file is refused or read, but nothing else is ever raised."""
    with Image.open(COFFEE) as image:
        data = _file(image.convert("RGB").resize((60, 40)), kind)
    for end in range(0, len(data), max(1, len(data) // 200)):
        assert _status(data[:end]) in (200, 400, 415)


def test_every_corruption_is_an_answer() -> None:
    random = np.random.default_rng(7)
    with Image.open(COFFEE) as image:
        files = [_file(image.convert("RGB").resize((60, 40)), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF")]
    for data in files * 40:
        broken = bytearray(data)
        for place in random.integers(0, len(data), 5):
            broken[place] = random.integers(256)
        assert _status(bytes(broken)) in (200, 400, 413, 415)


@pytest.mark.parametrize("text", SENTENCES)
def test_tokens_are_those_of_openai(openai_clip: OpenAIClip, text: str) -> None:
    tokens, cut = TOKENIZER.tokenize(text.encode())
    padded = torch.zeros(77, dtype=torch.int)
    padded[: len(tokens)] = torch.tensor(tokens)
    assert torch.equal(padded, openai_clip.tokenize(text)[0])
    assert cut == (len(openai_clip._clip._tokenizer.encode(text)) > 75)


def test_time_does_not_grow_with_the_text() -> None:
    random = np.random.default_rng(3)
    letters = "".join(chr(97 + i) for i in random.integers(0, 26, 64 * 1024))
    before = time.perf_counter()
    TOKENIZER.tokenize(letters.encode())
    TOKENIZER.tokenize(("ab cd " * 11000).encode())
    assert time.perf_counter() - before < 1.0


def test_the_cache_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_inputs, "_CACHED_WORDS", 100)
    tokenizer = clip_inputs.Tokenizer(clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz"))
    for number in range(300):
        tokenizer.tokenize(f"word{number}{chr(97 + number % 26)}x unheard{chr(97 + number // 26)}of".encode())
    assert len(tokenizer._bpe.cache) <= 110
    assert tokenizer.tokenize(b"the token <|endoftext|> stays")[0].count(49407) == 2
