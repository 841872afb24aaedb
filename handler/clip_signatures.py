"""What a file is by its first bytes: for messages, and for requests that do not say what they send."""

from __future__ import annotations

# As people name them, and as Pillow does. The order is that of messages.
PILLOW_NAMES = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "WEBP": "WEBP",
    "GIF": "GIF",
    "BMP": "BMP",
    "TIFF": "TIFF",
    "HEIC": "HEIF",
    "AVIF": "AVIF",
}
_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"\0\0\1\0": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"PK\3\4": "ZIP",
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
}
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}


def name_of(data: bytes) -> str | None:
    """The format's name, one of PILLOW_NAMES or another that people know; None when the bytes look like none."""
    for start, name in _STARTS.items():
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    # Texts begin with BM, too: what follows has to be the header's size.
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 128)]
        found = (_BRANDS.get(brands[at : at + 4]) for at in range(0, len(brands), 4))
        return next((name for name in found if name), "MP4 or another film")
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    if start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in start):
        return "SVG"
    return None


def is_picture(data: bytes) -> bool:
    """Whether the bytes begin like a file of one of PILLOW_NAMES."""
    return name_of(data) in PILLOW_NAMES
