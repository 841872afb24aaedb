"""What is done with a file's bytes before Pillow sees them: cheap looks at what would cost it too much."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

# Encoders write 10 scans, ours and mozjpeg's at most 20; every scan goes over all of the picture's coefficients.
MOST_SCANS = 64
_PNG_START = b"\x89PNG\r\n\x1a\n"
# The chunks a picture is made of, and where its orientation stands. APNG's are left out: the picture without them is
# its first frame.
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}
_PNG_TEXTS_KEPT = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_MOST_TEXT_BYTES = 1_000_000
# In a scan FF stands for itself before 00, and RST markers may stand anywhere; all else is the next segment.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def scans_of_jpeg(data: bytes) -> int:
    """How many scans libjpeg would decode: 1 where the first one holds all of a picture; stops at MOST_SCANS + 1."""
    scans, at, components, progressive = 0, 2, 0, False
    while at + 4 <= len(data) and scans <= MOST_SCANS:
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0xD9:
            break
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
        elif marker == 0xDA:
            scans += 1
            if not progressive and scans == 1 and at + 4 < len(data) and data[at + 4] >= components:
                break
            end = _END_OF_SCAN.search(data, at + 2 + _length(data, at))
            if end is None:
                break
            at = end.start()
        else:
            if marker in _SOF:
                progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
                components = data[at + 9] if at + 9 < len(data) else 0
            at += 2 + _length(data, at)
    return scans


def _length(data: bytes, at: int) -> int:
    return max(2, int.from_bytes(data[at + 2 : at + 4], "big"))


def png_without_metadata(data: bytes) -> bytes:
    """The same picture, without the texts and profiles that Pillow would unpack, or refuse the file for."""
    if not data.startswith(_PNG_START):
        return data
    kept = [_PNG_START]
    texts = list(_PNG_TEXTS_KEPT)
    end = len(_PNG_START)
    for kind, start, end in _chunks(data):
        body = data[start + 8 : end - 4]
        if kind in _PNG_KEPT:
            kept.append(data[start:end])
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            name = next((name for name in texts if body.startswith(name)), None)
            if name is not None and _unpacked_bytes(kind, body, len(name)) < _MOST_TEXT_BYTES:
                texts.remove(name)
                kept.append(data[start:end])
    return b"".join((*kept, data[end:]))  # what is broken stays so: Pillow has to see it


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of every whole chunk."""
    at = len(_PNG_START)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def _unpacked_bytes(kind: bytes, body: bytes, start: int) -> int:
    """How long a text chunk is unpacked; no more than _MOST_TEXT_BYTES are looked at."""
    packed = body[start + 1 :]
    if kind == b"tEXt":
        return len(body)
    if kind == b"iTXt":
        if body[start : start + 1] != b"\1":
            return len(body)
        packed = body[start + 2 :].partition(b"\0")[2].partition(b"\0")[2]
    try:
        return len(zlib.decompressobj().decompress(packed, _MOST_TEXT_BYTES))
    except zlib.error:
        return _MOST_TEXT_BYTES


def size_of_webp(data: bytes) -> tuple[int, int] | None:
    """(width, height) from a WebP's first chunk (RFC 9649); None for anything else."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        sides = int.from_bytes(body[1:5], "little")
        return 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None
