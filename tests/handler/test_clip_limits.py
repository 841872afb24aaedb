"""Picture files that are refused, before they cost anything, or measured first."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import clip_files
import numpy as np
import pytest
from clip_inputs import Refusal
from clip_limits import Limits
from clip_pictures import decode_image
from PIL import Image

from ..support.pictures import chunk, file, scene, with_chunks
from ..support.seen import apart, refusal_of, seen_of

SCENE = scene()


@pytest.mark.parametrize(("kind", "name"), [("HEIF", "HEIC"), ("AVIF", "AVIF")])
def test_what_phones_make_is_read_unless_it_is_switched_off(kind: str, name: str) -> None:
    data = file(SCENE, kind, quality=80)
    assert apart(data, file(SCENE, "PNG")) < 3
    refusal = refusal_of(data, Limits(formats=("JPEG", "PNG")))
    assert (refusal.status, refusal.code) == (415, "unsupported_image")
    assert refusal.message.startswith(f"{name} is switched off here")


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"<!DOCTYPE html><html><body>403 hotlinking</body></html>", 415, "this is HTML"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", 415, "this is SVG"),
        (b"%PDF-1.7", 415, "this is PDF"),
        (b"\0\0\0\x18ftypmp42" + bytes(20), 415, "MP4"),
        (b"anything", 415, "not an image in one of the formats JPEG, PNG, WEBP, GIF, BMP, TIFF, HEIC, AVIF"),
        (b"II*\0\x08\0\0\0", 400, "the TIFF file is broken"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", 400, "the JPEG file is broken"),
        (b"GIF89a" + bytes(7) + b"\x2c" + bytes(9) + b"\x02\0;", 400, "the GIF file is broken"),
    ],
)
def test_a_refusal_names_what_the_file_is(data: bytes, status: int, message: str) -> None:
    refusal = refusal_of(data)
    assert refusal.status == status
    assert message in refusal.message


def test_a_png_with_much_metadata_is_read() -> None:
    png, right = file(SCENE, "PNG"), seen_of(file(SCENE, "PNG"))
    text = zlib.compress(b"<history>" + b"step " * 420_000)
    bomb = zlib.compress(bytes(900_000_000 // 100))
    for extra in (
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + text),
        chunk(b"zTXt", b"workflow\0\0" + text),
        chunk(b"tEXt", b"prompt\0" + b"x" * 3_000_000),
        chunk(b"iCCP", b"huge\0\0" + bomb),
        b"".join(chunk(b"zTXt", b"k%d\0\0" % number + zlib.compress(bytes(1_000_000))) for number in range(70)),
        b"".join(chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb) for _ in range(20)),
    ):
        assert np.array_equal(seen_of(with_chunks(png, extra)), right)
        assert np.array_equal(seen_of(with_chunks(png, extra, b"IEND")), right)


def _jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG of 1,000 x 1,000 pixels with so many scans more, each of which changes nothing."""
    data = file(Image.new("L", (1000, 1000), 128), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * (scans + 1) + data[-2:]


def test_the_scans_of_a_jpeg_are_counted() -> None:
    assert clip_files.scans_of_jpeg(file(SCENE, "JPEG")) == 1
    assert 6 <= clip_files.scans_of_jpeg(file(SCENE, "JPEG", progressive=True)) <= 12
    thumbnail = file(SCENE, "JPEG", exif=b"Exif\0\0" + file(SCENE.resize((64, 64)), "JPEG", progressive=True))
    assert clip_files.scans_of_jpeg(thumbnail) == 1
    film = file(SCENE, "JPEG") + b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x02" * 5000  # what phones append
    assert clip_files.scans_of_jpeg(film) == 1
    assert apart(film, file(SCENE, "JPEG")) == 0


def test_a_jpeg_of_absurdly_many_scans_is_refused_before_it_is_decoded() -> None:
    charged: list[int] = []
    with pytest.raises(Refusal, match="scans") as caught:
        decode_image(_jpeg_of_scans(3000), Limits(), charged.append)
    assert (caught.value.status, caught.value.code) == (413, "too_costly")
    assert charged == []
    assert seen_of(_jpeg_of_scans(20)).shape == (224, 224, 3)


def test_the_memory_is_told_before_anything_is_decoded() -> None:
    class Enough(Exception):
        pass

    def charge(needed_bytes: int) -> None:
        raise Enough(needed_bytes)

    header = file(Image.new("RGB", (9000, 9000)), "PNG")[:5000]  # its pixels are missing
    with pytest.raises(Enough) as caught:
        decode_image(header, Limits(), charge)
    assert 4 * 81_000_000 <= caught.value.args[0] < 5 * 81_000_000


def test_a_webp_is_measured_before_it_is_opened() -> None:
    for options in ({"lossless": True}, {"quality": 50}, {"save_all": True, "append_images": [SCENE]}):
        data = file(SCENE, "WEBP", **options)
        assert clip_files.size_of_webp(data) == SCENE.size
    alpha = SCENE.convert("RGBA")
    alpha.putalpha(100)
    assert clip_files.size_of_webp(file(alpha, "WEBP")) == SCENE.size
    vp8x = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + struct.pack("<I", 0) + (19_999).to_bytes(3, "little") * 2
    assert refusal_of(vp8x).code == "too_many_pixels"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("lost_bytes", [1, 2, 10, 1000])
def test_a_jpeg_without_its_end_marker_is_refused_as_cut_off(options: dict[str, Any], lost_bytes: int) -> None:
    whole = file(scene(), "JPEG", **options)
    decode_image(whole, Limits())
    with pytest.raises(Refusal, match="truncated") as refused:
        decode_image(whole[:-lost_bytes], Limits())
    assert (refused.value.status, refused.value.code) == (400, "unreadable_image")
