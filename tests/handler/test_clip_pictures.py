"""Picture files as people really send them: what the model sees of each is what a viewer shows."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import clip_files
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from clip_inputs import Refusal
from clip_limits import Limits
from clip_pictures import decode_image
from PIL import Image, ImageOps

from ..support.pictures import chunk, file, logo, scene, turned, with_chunks

Pixels = npt.NDArray[np.uint8]
SCENE = scene()
GREY = SCENE.convert("L")


def _seen(data: bytes) -> npt.NDArray[np.int16]:
    return decode_image(data, Limits()).astype(np.int16)


def _refusal(data: bytes, limits: Limits | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode_image(data, limits or Limits())
    return caught.value


def _apart(one: bytes | npt.NDArray[np.int16], other: bytes | npt.NDArray[np.int16]) -> float:
    """The mean difference of what is seen, in grey levels."""
    first, second = (_seen(each) if isinstance(each, bytes) else each for each in (one, other))
    return float(np.abs(first - second).mean())


def _array(values: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(values)


def _lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert converted is not None
    return converted


def _levels() -> npt.NDArray[np.uint8]:
    return np.asarray(GREY)


# Each of Pillow's modes in a file that holds it: how it is made of the scene, and what of it has to be seen.
MODES: dict[str, tuple[str, Callable[[], Image.Image], Callable[[], Image.Image]]] = {
    "1": ("PNG", lambda: SCENE.convert("1"), lambda: SCENE.convert("1").convert("L")),
    "L": ("PNG", lambda: GREY, lambda: GREY),
    "LA": ("PNG", lambda: SCENE.convert("LA"), lambda: GREY),
    "P": ("PNG", lambda: SCENE.quantize(64), lambda: SCENE.quantize(64).convert("RGB")),
    "RGB": ("PNG", lambda: SCENE, lambda: SCENE),
    "RGBA": ("PNG", lambda: SCENE.convert("RGBA"), lambda: SCENE),
    "RGBX": ("TIFF", lambda: SCENE.convert("RGBX"), lambda: SCENE),
    "CMYK": ("TIFF", lambda: SCENE.convert("CMYK"), lambda: SCENE),
    "LAB": ("TIFF", lambda: _lab(SCENE), lambda: SCENE),
    "YCbCr": ("JPEG", lambda: SCENE.convert("YCbCr"), lambda: SCENE),
    "I;16": ("PNG", lambda: _array(_levels().astype(np.uint16) * 257), lambda: GREY),
    "I;16B": ("TIFF", lambda: _array((_levels().astype(np.uint16) * 257).astype(">u2")), lambda: GREY),
    "I": ("TIFF", lambda: _array(_levels().astype(np.int32) * 1000), lambda: ImageOps.autocontrast(GREY)),
    "F": ("TIFF", lambda: _array(_levels().astype(np.float32) / 255), lambda: ImageOps.autocontrast(GREY)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_shows_the_right_pixels(mode: str) -> None:
    kind, make, expected = MODES[mode]
    picture = make()
    assert picture.mode == mode
    right = np.asarray(decode_image(file(expected().convert("RGB"), "PNG"), Limits()), np.int16)
    assert _apart(file(picture, kind), right) < (2.0 if mode in ("YCbCr", "LAB") else 0.6)
    assert right.std() > 20  # it is no blank that is compared


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_in_every_format_that_has_one(kind: str, orientation: int) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind != "TIFF" else {}
    stored = turned(SCENE, orientation, kind, **options)
    if kind in ("PNG", "WEBP", "TIFF"):
        assert np.array_equal(_seen(stored), _seen(file(SCENE, "PNG")))
    else:
        assert _apart(stored, file(SCENE, "PNG")) < 3
        wrong = file(ImageOps.mirror(SCENE), "PNG")
        assert _apart(stored, wrong) > 20


def test_in_a_heic_only_its_own_box_turns() -> None:
    """As in all viewers: cameras write EXIF's tag beside it, and both together would turn twice."""
    stored = turned(SCENE, 6, "HEIF", quality=95)
    assert _apart(stored, file(SCENE.transpose(Image.Transpose.ROTATE_90), "PNG")) < 3


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_turning_the_small_picture_is_turning_the_large_one_to_the_bit(mode: str) -> None:
    numbers = np.random.default_rng(6)
    for _ in range(8):
        width, height = (int(side) for side in numbers.integers(1, 700, 2))
        noise = Image.fromarray(numbers.integers(0, 256, (height, width, 4), np.uint8), "RGBA").convert(mode)
        right = _seen(file(noise, "PNG"))
        for orientation in range(2, 9):
            assert np.array_equal(_seen(turned(noise, orientation, "PNG")), right), (width, height, orientation)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # the decoders' processes say nothing
@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff garbage", b"Exif\0\0", b"II*\0", b"\0" * 40])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_loses_only_the_turn(kind: str, exif: bytes) -> None:
    assert np.array_equal(_seen(file(SCENE, kind, exif=exif)), _seen(file(SCENE, kind)))


@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_an_orientation_that_is_none_is_ignored(value: int) -> None:
    stored = file(SCENE, "TIFF", tiffinfo={274: value})
    assert np.array_equal(_seen(stored), _seen(file(SCENE, "PNG")))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_a_tiff_is_right_or_refused_by_name(planar: Any, compression: Any, dtype: str, tile: Any) -> None:
    rgb = np.asarray(SCENE)
    values = {"uint8": rgb, "uint16": rgb.astype(np.uint16) * 257, "float32": rgb.astype(np.float32) / 255}[dtype]
    if planar == "separate":
        values = np.ascontiguousarray(values.transpose(2, 0, 1))
    written = io.BytesIO()
    # tifffile compresses only with imagecodecs: Pillow's own writer makes those.
    if compression is not None:
        if planar == "separate" or dtype != "uint8" or tile is not None:
            pytest.skip("nothing here writes it")
        written.write(
            file(SCENE, "TIFF", compression={"deflate": "tiff_adobe_deflate", "lzw": "tiff_lzw"}[compression])
        )
    else:
        tifffile.imwrite(written, values, photometric="rgb", planarconfig=planar, tile=tile)
    try:
        seen = _seen(written.getvalue())
    except Refusal as refusal:
        assert (refusal.status, refusal.code) == (415, "unsupported_image")  # noqa: PT017
        assert "a TIFF of a kind that cannot be read" in refusal.message  # noqa: PT017
        assert dtype == "float32" or (dtype == "uint16" and planar == "separate")
    else:
        assert dtype != "float32"
        assert np.abs(seen - _seen(file(SCENE, "PNG"))).max() == 0


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_deep_grey_is_read_on_the_smallest_scale_that_holds_it(bits: int, kind: str) -> None:
    grey = np.asarray(ImageOps.autocontrast(GREY)).astype(np.uint16)
    deep = Image.fromarray(grey << (bits - 8))
    assert np.array_equal(_seen(file(deep, kind)), _seen(file(Image.fromarray(grey.astype(np.uint8)), "PNG")))


def test_what_is_hidden_by_transparency_does_not_count() -> None:
    mask = Image.new("L", SCENE.size)
    mask.paste(255, (80, 60, 240, 160))
    hidden = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*SCENE.size[::-1], 3), np.uint8))
    noisy = Image.composite(SCENE, hidden, mask).convert("RGBA")
    noisy.putalpha(mask)
    shown = Image.composite(SCENE, Image.new("RGB", SCENE.size, "white"), mask)
    assert _apart(file(noisy, "PNG"), file(shown, "PNG")) < 0.5
    assert _apart(file(noisy, "WEBP", lossless=True, exact=True), file(shown, "PNG")) < 0.5
    assert _apart(file(noisy, "TIFF"), file(shown, "PNG")) < 0.5


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("colour", ["black", "white"])
def test_logos_are_told_apart_whatever_their_colour(mode: str, colour: str) -> None:
    star, ring = (file(logo(shape, colour).convert(mode), "PNG") for shape in ("star", "ring"))
    assert _apart(star, ring) > 10
    on = "white" if colour == "black" else "black"
    flat = Image.new("RGB", (300, 300), on)
    flat.paste(Image.new("RGB", flat.size, colour), mask=logo("star", colour).getchannel("A"))
    assert _apart(star, file(flat, "PNG")) < 1


def test_half_a_transparency_is_half_of_the_background() -> None:
    red = Image.new("RGBA", (300, 300), (200, 0, 0, 128))
    assert np.abs(_seen(file(red, "PNG"))[100, 100] - (227, 127, 127)).max() <= 1
    assert (_seen(file(Image.new("RGBA", (300, 300)), "PNG")) == 255).all()  # nothing is visible


def test_a_transparent_colour_or_palette_entry_is_the_background() -> None:
    red = Image.new("RGB", (300, 300), (255, 0, 0))
    red.paste((0, 0, 255), (0, 0, 150, 300))
    palette = red.quantize(4)
    index = palette.getpixel((0, 0))
    shown = red.copy()
    shown.paste((255, 255, 255), (0, 0, 150, 300))
    for data in (
        file(red, "PNG", transparency=(0, 0, 255)),
        file(palette, "PNG", transparency=index),
        file(palette, "GIF", transparency=index),
    ):
        assert _apart(data, file(shown, "PNG")) < 0.5


@pytest.mark.parametrize(("kind", "name"), [("HEIF", "HEIC"), ("AVIF", "AVIF")])
def test_what_phones_make_is_read_unless_it_is_switched_off(kind: str, name: str) -> None:
    data = file(SCENE, kind, quality=80)
    assert _apart(data, file(SCENE, "PNG")) < 3
    refusal = _refusal(data, Limits(formats=("JPEG", "PNG")))
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
    refusal = _refusal(data)
    assert refusal.status == status
    assert message in refusal.message


def test_a_png_with_much_metadata_is_read() -> None:
    png, right = file(SCENE, "PNG"), _seen(file(SCENE, "PNG"))
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
        assert np.array_equal(_seen(with_chunks(png, extra)), right)
        assert np.array_equal(_seen(with_chunks(png, extra, b"IEND")), right)


def test_a_png_keeps_the_orientation_that_stands_in_its_texts() -> None:
    stored = turned(SCENE, 6, "PNG")
    exif = Image.Exif()
    exif[274] = 6
    raw = exif.tobytes()
    text = f"\nexif\n{len(raw):8}\n{raw.hex()}\n".encode()
    with Image.open(io.BytesIO(stored)) as image:
        bare = file(image.convert("RGB"), "PNG", exif=b"")
    old = with_chunks(bare, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    assert np.array_equal(_seen(old), _seen(file(SCENE, "PNG")))


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
    assert _apart(film, file(SCENE, "JPEG")) == 0


def test_a_jpeg_of_absurdly_many_scans_is_refused_before_it_is_decoded() -> None:
    charged: list[int] = []
    with pytest.raises(Refusal, match="scans") as caught:
        decode_image(_jpeg_of_scans(3000), Limits(), charged.append)
    assert (caught.value.status, caught.value.code) == (413, "too_costly")
    assert charged == []
    assert _seen(_jpeg_of_scans(20)).shape == (224, 224, 3)


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
    assert _refusal(vp8x).code == "too_many_pixels"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("lost_bytes", [1, 2, 10, 1000])
def test_a_jpeg_without_its_end_marker_is_refused_as_cut_off(options: dict[str, Any], lost_bytes: int) -> None:
    whole = file(scene(), "JPEG", **options)
    decode_image(whole, Limits())
    with pytest.raises(Refusal, match="truncated") as refused:
        decode_image(whole[:-lost_bytes], Limits())
    assert (refused.value.status, refused.value.code) == (400, "unreadable_image")
