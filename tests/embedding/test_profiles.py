"""Colours of photographs with a profile: the preview shows them in sRGB, whatever the file stores."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from index_sidecar.embedding.previews import preview_of_image

Matrix = npt.NDArray[np.float64]

# Columns of red, green and blue in CIE XYZ under D50, as Apple's and Adobe's own profiles hold them.
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
COLOURS = [(200, 60, 40), (60, 160, 70), (50, 80, 190), (230, 200, 60), (120, 120, 120), (240, 235, 230), (30, 25, 40)]


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A display's ICC profile of version 2.1, by the specification (ICC.1:2001-04)."""
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\2x\0".ljust(92, b"\0"), b"wtpt": _xyz(0.9642, 1.0, 0.8249), **tags}
    table, bodies = b"", b""
    for name, body in tags.items():
        body = body.ljust(-len(body) % 4 + len(body), b"\0")
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(bodies), len(body))
        bodies += body
    header = struct.pack(
        ">I4xI4s4s4s12x4s", 132 + len(table) + len(bodies), 0x02100000, b"mntr", space, b"XYZ ", b"acsp"
    )
    header = header.ljust(68, b"\0") + _xyz(0.9642, 1.0, 0.8249)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _rgb_profile(columns: Matrix, curve: bytes) -> bytes:
    tags = {name: _xyz(*columns[:, place]) for place, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def _srgb_curve() -> bytes:
    light = _linear(np.linspace(0, 255, 1024))
    return b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *(light * 65535).round().astype(int))


def _linear(levels: Matrix) -> Matrix:
    unit = levels / 255
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)


def _levels(light: Matrix) -> Matrix:
    unit = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.clip(light, 0, 1) ** (1 / 2.4) - 0.055)
    return unit * 255


def _patches(colours: Any, mode: str = "RGB") -> Image.Image:
    """Stripes of 32 pixels, wide enough that WebP's colours are those of the middle."""
    rows = np.repeat(np.array(colours).round().astype(np.uint8), 32, axis=0)
    pixels = np.repeat(rows[:, None], 96, axis=1)
    if mode == "CMYK":
        return Image.frombytes("CMYK", (96, len(rows)), pixels.tobytes())
    return Image.fromarray(pixels)


def _shown(image: Image.Image, kind: str, profile: bytes, **options: Any) -> Matrix:
    """What the preview shows in the middle of each stripe."""
    file = io.BytesIO()
    image.save(file, kind, icc_profile=profile, **options)
    preview = preview_of_image(file.getvalue())
    assert preview is not None
    pixels = np.asarray(Image.open(io.BytesIO(preview)).convert("RGB"), np.float64)
    middles: Matrix = pixels[16::32, 32:64].mean(axis=1)
    return middles


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF", "AVIF"])
@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB"])
def test_wide_colours_are_shown_in_srgb(space: str, kind: str) -> None:
    light = _linear(np.array(COLOURS, np.float64)) @ SRGB.T  # XYZ of what is to be seen
    if space == "Display P3":
        stored = _levels(light @ np.linalg.inv(DISPLAY_P3).T)
        profile = _rgb_profile(DISPLAY_P3, _srgb_curve())
    else:
        stored = np.clip(light @ np.linalg.inv(ADOBE_RGB).T, 0, 1) ** (1 / 2.19921875) * 255
        profile = _rgb_profile(ADOBE_RGB, _curve(2.19921875))
    assert np.abs(stored - COLOURS).max() > 15  # as they are stored, they look pale
    nearly: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 98}
    shown = _shown(_patches(stored), kind, profile, **nearly)
    assert np.abs(shown - COLOURS).max() < 8  # the preview's own compression and that of the file


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_grey_profile_tells_how_bright_grey_is(kind: str) -> None:
    greys = np.array([20, 60, 128, 200, 250])
    dark = _profile(b"GRAY", {b"kTRC": _curve(1.75)})  # brighter numbers for the same grey, as on old printers
    stored = _linear(greys.astype(np.float64)) ** (1 / 1.75) * 255
    assert np.abs(stored - greys).max() > 15
    shown = _shown(_patches(stored), kind, dark)
    assert np.abs(shown - greys[:, None]).max() < 8


def test_a_profile_for_other_colours_than_the_pictures_is_passed_over() -> None:
    greys = np.array([20, 60, 128, 200, 250])
    shown = _shown(_patches(greys), "PNG", _rgb_profile(DISPLAY_P3, _curve(1.0)))
    assert np.abs(shown - greys[:, None]).max() < 5


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_shown_as_their_profile_mixes_them(kind: str) -> None:
    """A press whose cyan is a red, and whose magenta and yellow leave nothing: by a table of 16 mixtures in Lab."""
    paper, red = [(100, 0, 0), (0, 0, 0)], [(60, 40, 30), (0, 0, 0)]  # without and with black
    corners = paper * 4 + red * 4
    mixtures = b"".join(bytes((round(light * 2.55), a + 128, b + 128)) for light, a, b in corners)
    identity, ramp = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536), bytes(range(256))
    table = b"mft1\0\0\0\0" + struct.pack(">4B", 4, 3, 2, 0) + identity + ramp * 4 + mixtures + ramp * 3
    profile = _profile(b"CMYK", {b"A2B0": table}).replace(b"mntrCMYKXYZ ", b"prtrCMYKLab ")
    inks = _patches([(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 0, 0)], "CMYK")
    shown = _shown(inks, kind, profile)
    assert np.abs(shown - [(218, 118, 94), (255, 255, 255), (255, 255, 255)]).max() < 12
