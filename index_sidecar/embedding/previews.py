"""Previews: what a person needs to recognise a content, in a few kilobytes, whatever was sent."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from ..archive.content import ContentType

logger = logging.getLogger(__name__)

SIDE_PIXELS = 256
CHARACTERS = 500
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_MOST_PIXELS = 100_000_000
_THREADS = 2

# Our own cap is checked on the header, before a pixel is decoded; Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None


class Previews:
    """Makes previews in threads of its own, so that big pictures hold nothing up but each other."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._threads = ThreadPoolExecutor(_THREADS, "previews")

    def close(self) -> None:
        """Finish what is under way and end the threads."""
        self._threads.shutdown()

    async def make(self, data: bytes, content_type: ContentType) -> bytes | None:
        """The preview of a content; None when it has none, or none is wanted. Never raises for what is in `data`."""
        if not self._enabled:
            return None
        work = preview_of_text if content_type == "text" else preview_of_image
        context = contextvars.copy_context()  # so that what the thread logs names the request
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work, data)


def preview_of_text(data: bytes) -> bytes:
    """The first 500 characters, in UTF-8."""
    start = data[: 4 * CHARACTERS]  # no character is longer than four bytes
    return start.decode("utf-8", "ignore")[:CHARACTERS].encode()


def preview_of_image(data: bytes) -> bytes | None:
    """A WebP of at most 256 x 256 pixels, upright, of the first frame; None when the file cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            image.draft("RGB", (2 * SIDE_PIXELS, 2 * SIDE_PIXELS))  # decodes a JPEG file at a fraction of its size
            upright = _shown(ImageOps.exif_transpose(image))
            upright.thumbnail((SIDE_PIXELS, SIDE_PIXELS))
            result = io.BytesIO()
            upright.save(result, "WEBP", quality=80, exif=b"")  # where a picture was taken is not for everybody
            return result.getvalue()
    except Exception as error:
        # Pillow answers broken files with many kinds of exception; the model has taken the content, so it stays.
        logger.info("no preview of an image of %d bytes: %s", len(data), type(error).__name__)
        return None


def _shown(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> one that WebP knows."""
    if image.mode.startswith(("I", "F")):  # no scale is written in these: stretch what is there over the grey range
        step = max(1, max(image.size) // (2 * SIDE_PIXELS))
        values = np.nan_to_num(np.asarray(image)[::step, ::step].astype(np.float64))
        grey = (values - values.min()) * (255.0 / max(float(np.ptp(values)), 1e-9))
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
