"""Pictures of many shapes, and archives that are full before a sidecar starts on them."""

from __future__ import annotations

import asyncio
import colorsys
from functools import cache
from pathlib import Path

from PIL import Image

from index_sidecar.archive.content import Content, Embedding, digest, preview_of_text
from index_sidecar.archive.metadata import Metadata
from index_sidecar.embedding.previews import preview_of_image
from index_sidecar.sqlite.store import SqliteStore

from .contents import content_of
from .pictures import file

SHAPES = [(240, 160), (160, 240), (256, 256), (256, 144), (200, 150), (120, 256)]


def png(number: int) -> bytes:
    """A PNG of one colour, of which each number has its own shape and bytes."""
    colour = tuple(int(255 * each) for each in colorsys.hsv_to_rgb(number * 0.618 % 1, 0.5, 0.8))
    image = Image.new("RGB", SHAPES[number % len(SHAPES)], colour)
    image.putpixel((0, 0), (number % 256, number // 256 % 256, 7))
    return file(image, "PNG")


@cache
def _preview(number: int) -> bytes | None:
    return preview_of_image(png(number % 60))


@cache
def _embedding(number: int) -> Embedding:
    return content_of("any", b"%d" % number).embedding


async def fill(data_dir: Path, count: int, pictures: int) -> None:
    """Contents in a store, each a second younger than the one before; every so many-th of them is a picture."""
    store = SqliteStore(data_dir / "contents.sqlite")
    told = count <= 1000  # metadata takes most of the time

    async def put(number: int) -> None:
        is_picture = pictures > 0 and number % (count // pictures) == 0
        data = b"picture %d" % number if is_picture else b"text %d of a long list of sentences" % number
        metadata: Metadata = {"title": f"Number {number}", "tags": ["odd" if number % 2 else "even"]} if told else {}
        content = Content(
            f"item-{number}",
            "image" if is_picture else "text",
            ("ada", "grace")[number % 2],
            digest(data),
            1_700_000_000.0 + number,
            _embedding(number % 1000),
            metadata,
        )
        await store.put(content, _preview(number) if is_picture else preview_of_text(data))

    await put(0)
    for start in range(1, count, 500):
        await asyncio.gather(*(put(number) for number in range(start, min(start + 500, count))))
    await store.close()
