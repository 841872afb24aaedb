"""Whether a file is a picture or a text, by its name or by its first bytes."""

from __future__ import annotations

import os

from .answers import ContentType

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
TEXTS = (".txt",)
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")


def kind_of_name(name: str) -> ContentType | None:
    """By the end of a file's name; None where that tells nothing."""
    end = os.path.splitext(name)[1].lower()
    return "image" if end in PICTURES else "text" if end in TEXTS else None


def kind_of_bytes(data: bytes) -> ContentType:
    """By the first bytes of a file, as each picture format begins."""
    riff, iso = data[:4] == b"RIFF" and data[8:12] == b"WEBP", data[4:8] == b"ftyp"
    return "image" if data.startswith(_SIGNATURES) or riff or iso else "text"
