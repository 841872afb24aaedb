"""Previews: made of real pictures, served so that nothing runs, gone with their content."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from index_sidecar.archive.content import preview_of_text
from index_sidecar.embedding.previews import Previews, preview_of_image
from index_sidecar.settings import Settings

from ..support.fake_torchserve import PNG
from ..support.samples import PHOTOGRAPHS
from ..support.sidecar import Sidecar, running


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _opened(preview: bytes | None) -> Image.Image:
    assert preview is not None
    image = Image.open(io.BytesIO(preview))
    assert image.format == "WEBP"
    return image


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
def test_a_photograph_is_still_recognised(path: Any) -> None:
    preview = _opened(preview_of_image(path.read_bytes()))
    with Image.open(path) as original:
        assert max(preview.size) == min(256, max(original.size))
        profile = original.info.get("icc_profile")  # of page.png, that of a printing press
        managed: Image.Image = original
        if profile is not None:
            source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(original, source, srgb, outputMode="RGB")
            assert converted is not None
            managed = converted
        small = managed.convert("RGB").resize(preview.size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(small, np.float64) - np.asarray(preview.convert("RGB"), np.float64)).mean()
    assert difference < 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_format_and_mode(kind: str, mode: str) -> None:
    if mode == "I;16" and kind not in ("PNG", "TIFF"):
        pytest.skip(f"{kind} has no {mode}")
    grey = Image.linear_gradient("L").resize((600, 300))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    else:
        image = grey.convert("RGB").convert(mode) if mode not in ("F", "L") else grey.convert(mode)
    try:
        data = _file(image, kind)
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no {mode}")
    preview = _opened(preview_of_image(data))
    assert preview.size == (256, 128)
    values = np.asarray(preview.convert("L"), np.float64)
    assert values[-8:].mean() - values[:8].mean() > 150  # from black to white, as it was


def test_a_picture_is_upright_and_says_nothing_of_where_it_was_taken() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "at home"
    preview = _opened(preview_of_image(_file(Image.new("RGB", (400, 200)), "JPEG", exif=exif)))
    assert preview.size == (128, 256)
    assert dict(preview.getexif()) == {}


@pytest.mark.parametrize("data", [b"", b"%PDF", PNG, PNG + b"pixels", PHOTOGRAPHS[0].read_bytes()[:2000]])
def test_what_cannot_be_read_has_no_preview(data: bytes) -> None:
    assert preview_of_image(data) is None


def test_a_text_is_cut_between_characters() -> None:
    assert preview_of_text("漢🙂é".encode() * 1000).decode() == ("漢🙂é" * 1000)[:500]
    assert preview_of_text(b"short") == b"short"


async def test_a_preview_is_served_as_nothing_but_what_it_is(sidecar: Sidecar) -> None:
    await sidecar.add("i", PHOTOGRAPHS[0].read_bytes(), "image")
    await sidecar.add("t", b"<script>alert(1)</script>" * 50)
    expected = {"i": ("image/webp", b"RIFF"), "t": ("text/plain; charset=utf-8", b"<script>")}
    for content_id, (media_type, start) in expected.items():
        async with sidecar.client.session.get(f"{sidecar.url}/contents/{content_id}/preview") as response:
            body = await response.read()
            assert (response.status, response.headers["Content-Type"]) == (200, media_type)
            assert body.startswith(start)
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Content-Security-Policy"] == "default-src 'none'"
            assert response.headers["Cache-Control"] == "private, no-cache"
            etag = response.headers["ETag"]
        path = f"/contents/{content_id}/preview"
        assert (await sidecar.call("GET", path, headers={"If-None-Match": etag})).status == 304
        async with sidecar.client.session.get(sidecar.url + path, headers={"If-None-Match": '"x"'}) as response:
            assert response.status == 200


async def test_a_preview_goes_with_its_content(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one")
    assert (await sidecar.add("a", PNG + b"no real picture", "image")).status == 200  # the model took it
    assert (await sidecar.call("GET", "/contents/a/preview")).error == (404, "no_preview")
    await sidecar.call("DELETE", "/contents/a")
    assert (await sidecar.call("GET", "/contents/a/preview")).error == (404, "not_found")


async def test_previews_can_be_turned_off(settings: Settings) -> None:
    async with running(replace(settings, previews=False)) as sidecar:
        await asyncio.gather(sidecar.add("a", b"one"), sidecar.add("b", PHOTOGRAPHS[0].read_bytes(), "image"))
        for content_id in ("a", "b"):
            assert (await sidecar.call("GET", f"/contents/{content_id}/preview")).error == (404, "no_preview")


async def test_a_small_picture_does_not_wait_for_large_ones() -> None:
    previews = Previews(True, 1 << 30)
    large = _file(Image.new("RGB", (4000, 4000)), "PNG", compress_level=1)
    done: list[str] = []

    async def make(name: str, data: bytes) -> None:
        assert await previews.make(data, "image") is not None
        done.append(name)

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(make("large", large))
        group.create_task(make("small", _file(Image.new("RGB", (40, 40)), "PNG")))
    previews.close()
    assert sorted(done) == ["large"] * 6 + ["small"]
    assert done[-1] == "large"


def test_a_picture_in_strips_is_charged_for_one_strip() -> None:
    """100 megapixels in floating point, as telescopes and microscopes make them, fit the default memory."""
    charged: list[int] = []
    image = Image.fromarray(np.tile(np.linspace(0, 1, 500, dtype=np.float32), (1000, 1)))
    data = _file(image, "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: 50})
    assert preview_of_image(data, charged.append) is not None
    assert sum(charged) * 200 < Settings().max_decode_bytes
    assert sum(charged) > 4 * 500 * 1000
