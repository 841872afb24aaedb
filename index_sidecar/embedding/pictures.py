"""A picture file -> what a viewer shows of it, small: the first frame, upright, on its background, in sRGB.

The handler has taken the file before, and follows the same rules for greys, transparency and orientation; a test
compares both. Unlike the vector, which follows OpenAI's transform, the preview heeds colour profiles.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import AvifImagePlugin, ExifTags, Image, ImageCms, ImageOps, ImageStat, TiffImagePlugin

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
MOST_PIXELS = 100_000_000
# What is visible is taken for a white logo, and put on black, from this mean luminance on. The rest is put on white.
_NEARLY_WHITE = 0.8
_GREY_BITS = (10, 12, 14, 16)
_ROWS_AT_ONCE = 256
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}
_PNG_TEXTS_KEPT = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_MOST_UNPACKED_BYTES = 1_000_000
_SRGB = ImageCms.createProfile("sRGB")
_PROFILE_MODES = {"RGB ": ("RGB",), "GRAY": ("L",), "CMYK": ("CMYK",)}

# Our own cap is checked on the header, before a pixel is decoded; Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


class TooLarge(Exception):
    """More pixels than are looked at."""


def small_picture(data: bytes, side: int, charge: Callable[[int], None]) -> Image.Image:
    """RGB, at most `side` pixels wide and high. `charge` is told the bytes it takes before it begins, and may raise.

    Raises TooLarge, and whatever Pillow raises for broken files.
    """
    if data[:4] == b"RIFF":
        # Pillow allocates a WebP's frames while it opens it: 24 bytes for each pixel of the canvas.
        charge(24 * _pixels_of_webp(data) + 3 * len(data))
    with Image.open(io.BytesIO(_without_texts(data)), formats=_FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise TooLarge
        image.draft("RGB", (2 * side, 2 * side))  # decodes a JPEG file at a fraction of its size
        if image.format != "WEBP":
            charge(_decoding_bytes(image, len(data)))
        image.load()
        try:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:
            orientation = 1  # broken EXIF data only loses the turn
        profile = image.info.get("icc_profile")
        shown = _resizable(image)
    behind = _background(shown)
    shown.thumbnail((side, side))
    small = _in_srgb(_on_background(shown, behind), shown, profile)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    small.info = {"exif": exif.tobytes()}
    return ImageOps.exif_transpose(small)


def _resizable(image: Image.Image) -> Image.Image:
    """A loaded picture -> L, RGB or CMYK, or La or RGBa (premultiplied) where it has transparency; never itself."""
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _grey(image)
    if mode == "LAB":
        converted = ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), _SRGB, outputMode="RGB")
        assert converted is not None  # it is None only for conversions in place
        return converted
    if image.has_transparency_data and mode not in ("La", "RGBa"):
        straight, premultiplied = ("LA", "La") if mode in ("1", "L", "LA") else ("RGBA", "RGBa")
        if mode != straight:
            image = image.convert(straight)
        return image.convert(premultiplied)
    if mode in ("La", "RGBa", "L", "RGB", "CMYK"):
        # Its own picture without its file: `thumbnail` would have the decoder make it anew.
        return image._new(image.im)
    return image.convert("L" if mode == "1" else "RGB")


def _background(image: Image.Image) -> int:
    """0 or 255: black behind what is nearly white, white behind all else."""
    if image.mode not in ("La", "RGBa"):
        return 255
    *colours, alpha = ImageStat.Stat(image).sum
    weights = (1.0,) if image.mode == "La" else (0.299, 0.587, 0.114)
    luminance = sum(weight * colour for weight, colour in zip(weights, colours, strict=True))
    return 0 if luminance > _NEARLY_WHITE * alpha else 255


def _on_background(image: Image.Image, behind: int) -> Image.Image:
    if image.mode not in ("La", "RGBa"):
        return image
    *colours, alpha = image.split()
    through = np.asarray(alpha, np.uint16)
    light = (255 - through) * behind // 255
    bands = [np.minimum(np.minimum(np.asarray(colour), through) + light, 255).astype(np.uint8) for colour in colours]
    return Image.fromarray(np.dstack(bands if len(bands) == 3 else bands * 3))


def _in_srgb(image: Image.Image, source: Image.Image, profile: Any) -> Image.Image:
    """The picture's colours as its profile means them; as they are where it has none, or a broken one."""
    if isinstance(profile, bytes) and profile:
        try:
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.mode == "La":
                image = image.convert("L")
            if image.mode in _PROFILE_MODES.get(opened.profile.xcolor_space, ()):
                converted = ImageCms.profileToProfile(image, opened, _SRGB, outputMode="RGB")
                assert converted is not None
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """More than 8 bits of grey -> L, on the scale of the smallest of 10, 12, 14, 16 bits that holds the largest value.

    Nothing tells the scale of 32-bit and floating-point files: what is there is stretched over the range.
    """
    ranges = []
    for _, strip in _strips(image):
        finite = strip[np.isfinite(strip)]
        if finite.size:
            ranges.append((float(finite.min()), float(finite.max())))
    lowest = min((low for low, _ in ranges), default=0.0)
    highest = max((high for _, high in ranges), default=0.0)
    result = np.empty((image.height, image.width), np.uint8)
    if image.mode.startswith("I;16"):
        bits = next(bits for bits in _GREY_BITS if highest < 1 << bits)
        for top, strip in _strips(image):
            result[top : top + _ROWS_AT_ONCE] = strip >> (bits - 8)
        return Image.fromarray(result)
    span = highest - lowest
    scale = 255.0 / span if span else 0.0
    floating = np.float32 if span < np.finfo(np.float32).max else np.float64
    for top, strip in _strips(image):
        finite = np.nan_to_num(strip.astype(floating), nan=lowest, posinf=highest, neginf=lowest)
        result[top : top + _ROWS_AT_ONCE] = np.clip((finite - floating(lowest)) * floating(scale), 0, 255)
    return Image.fromarray(result)


def _strips(image: Image.Image) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """(first row, values) of parts of the picture: all of it in numpy would take its memory a second time."""
    for top in range(0, image.height, _ROWS_AT_ONCE):
        yield top, np.asarray(image.crop((0, top, image.width, min(top + _ROWS_AT_ONCE, image.height))))


def _decoding_bytes(image: Image.Image, file_bytes: int) -> int:
    """How much memory loading and converting takes at most."""
    stored = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}.get(image.mode, 4)
    a_pixel: float = stored + (14 if image.format in ("HEIF", "AVIF") else 0)
    if image.has_transparency_data:
        a_pixel += 4 if image.mode in ("RGBA", "LA") else 8
    elif image.mode in ("P", "LAB", "YCbCr", "HSV"):
        a_pixel += 4
    elif image.mode not in ("L", "RGB", "CMYK"):
        a_pixel += 2  # 8 bits of grey
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        rows = image.tag_v2.get(TiffImagePlugin.ROWSPERSTRIP, image.height)
        a_pixel += 8 * min(1.0, rows / image.height) if isinstance(rows, int) else 8
        if image.tag_v2.get(ExifTags.Base.Orientation, 1) != 1:
            a_pixel += stored  # turned while it is loaded
    coefficients = 6 if image.info.get("progressive") else 0
    return int((a_pixel + coefficients) * image.width * image.height) + 3 * file_bytes


def _pixels_of_webp(data: bytes) -> int:
    """From a WebP's first chunk (RFC 9649); the most there can be where it is not understood."""
    kind, body = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return (1 + int.from_bytes(body[4:7], "little")) * (1 + int.from_bytes(body[7:10], "little"))
    if kind == b"VP8L":
        sides = int.from_bytes(body[1:5], "little")
        return (1 + (sides & 0x3FFF)) * (1 + (sides >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        return (int.from_bytes(body[6:8], "little") & 0x3FFF) * (int.from_bytes(body[8:10], "little") & 0x3FFF)
    return 0


def _without_texts(data: bytes) -> bytes:
    """A PNG without the texts that Pillow would unpack, or refuse the file for; APNGs become their first frame."""
    if not data.startswith(_PNG_START):
        return data
    kept, at = [_PNG_START], len(_PNG_START)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        body = data[at + 8 : min(end - 4, at + 8 + _MOST_UNPACKED_BYTES)]
        texts = kind in (b"tEXt", b"zTXt", b"iTXt") and body.startswith(_PNG_TEXTS_KEPT)
        if kind in _PNG_KEPT or ((texts or kind == b"iCCP") and _unpacks(kind, body)):
            kept.append(data[at:end])
        at = end
    return b"".join((*kept, data[at:]))


def _unpacks(kind: bytes, body: bytes) -> bool:
    """Whether a text or a profile is short enough once it is unpacked."""
    name, _, rest = body.partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] != b"\1"):
        return len(body) < _MOST_UNPACKED_BYTES
    packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2] if kind == b"iTXt" else rest[1:]
    try:
        return bool(name) and len(zlib.decompressobj().decompress(packed, _MOST_UNPACKED_BYTES)) < _MOST_UNPACKED_BYTES
    except zlib.error:
        return False
