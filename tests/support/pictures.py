"""Pictures that tell up from down and red from blue, and the odd files that people make of them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageDraw

pillow_heif.register_heif_opener()

# How a picture is stored whose tag says that a viewer has to turn it.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width: int = 320, height: int = 214) -> Image.Image:
    """Blue sky, yellow sun top right, green meadow, red house bottom left."""
    down = np.linspace(0, 1, height)[:, None] * np.ones((1, width))
    sky = np.stack([90 + 60 * down, 150 + 50 * down, 235 - 20 * down], axis=2)
    image = Image.fromarray(sky.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height * 0.68, width, height), fill=(40, 150, 50))
    draw.ellipse((width * 0.75, height * 0.07, width * 0.9, height * 0.3), fill=(255, 225, 40))
    draw.rectangle((width * 0.08, height * 0.45, width * 0.4, height * 0.85), fill=(200, 40, 30))
    return image


def logo(shape: str, colour: str) -> Image.Image:
    """A `star` or a `ring` of one colour on nothing, RGBA; what nobody sees of it has the same colour."""
    mask = Image.new("L", (300, 300))
    draw = ImageDraw.Draw(mask)
    if shape == "star":
        draw.regular_polygon((150, 150, 120), 3, fill=255)
    else:
        draw.ellipse((30, 30, 270, 270), outline=255, width=40)
    image = Image.new("RGBA", mask.size, colour)
    image.putalpha(mask)
    return image


def file(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture in a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(upright: Image.Image, orientation: int, kind: str, **options: Any) -> bytes:
    """A file whose pixels lie otherwise, with the tag that says how to turn them back."""
    turn = TURNS[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    if kind == "TIFF":
        return file(stored, kind, tiffinfo={274: orientation}, **options)
    exif = Image.Exif()
    exif[274] = orientation
    return file(stored, kind, exif=exif, **options)


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(png: bytes, chunks: bytes, before: bytes = b"IDAT") -> bytes:
    """The PNG with more chunks in front of the first one of a kind."""
    at = png.index(before) - 4
    return png[:at] + chunks + png[at:]
