"""Previews: what a person needs to recognise a content, in a few kilobytes, whatever was sent."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from ..archive.content import ContentType, preview_of_text
from .pictures import small_picture

logger = logging.getLogger(__name__)

SIDE_PIXELS = 256
_THREADS = 2
_LARGE_BYTES = 32 << 20  # of memory for one picture; a photograph of 12 megapixels in a JPEG takes less


class DecodeBudget:
    """Bytes that all pictures being decoded may take together; who asks first gets first."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._turn = threading.Lock()
        self._freed = threading.Condition()

    @contextlib.contextmanager
    def purse(self) -> Iterator[Callable[[int], None]]:
        """What waits for bytes and takes them, or raises MemoryError; given back together in the end."""
        taken_bytes = 0

        def charge(wanted_bytes: int) -> None:
            nonlocal taken_bytes
            if wanted_bytes > self._total_bytes:
                raise MemoryError
            with self._turn, self._freed:
                self._freed.wait_for(lambda: self._free_bytes >= wanted_bytes)
                self._free_bytes -= wanted_bytes
                taken_bytes += wanted_bytes

        try:
            yield charge
        finally:
            with self._freed:
                self._free_bytes += taken_bytes
                self._freed.notify_all()


class _Large(Exception):
    """This picture takes more memory, and so more time, than most."""


class Previews:
    """Makes previews in threads of its own; large pictures have one of them, and hold up nothing but each other."""

    def __init__(self, enabled: bool, max_decode_bytes: int) -> None:
        self._enabled = enabled
        self._budget = DecodeBudget(max_decode_bytes)
        self._threads = ThreadPoolExecutor(_THREADS, "previews")
        self._for_large = ThreadPoolExecutor(1, "large-previews")

    def close(self) -> None:
        """Finish what is under way and end the threads."""
        self._threads.shutdown()
        self._for_large.shutdown()

    async def make(self, data: bytes, content_type: ContentType) -> bytes | None:
        """The preview of a content; None when it has none, or none is wanted. Never raises for what is in `data`."""
        if not self._enabled:
            return None
        if content_type == "text":
            return preview_of_text(data)
        context = contextvars.copy_context()  # so that what the thread logs names the request
        run = asyncio.get_running_loop().run_in_executor
        try:
            return await run(self._threads, context.run, self._of_small, data)
        except _Large:
            return await run(self._for_large, context.run, self._of_image, data)

    def _of_small(self, data: bytes) -> bytes | None:
        """Raises _Large, before it decodes anything."""
        with self._budget.purse() as charge:

            def charge_little(wanted_bytes: int) -> None:
                if wanted_bytes > _LARGE_BYTES:
                    raise _Large
                charge(wanted_bytes)

            return preview_of_image(data, charge_little)

    def _of_image(self, data: bytes) -> bytes | None:
        with self._budget.purse() as charge:
            return preview_of_image(data, charge)


def _take(needed_bytes: int) -> None:
    """Memory is no matter here."""


def preview_of_image(data: bytes, charge: Callable[[int], None] = _take) -> bytes | None:
    """A WebP of at most 256 x 256 pixels; None when the file cannot be read, or takes more memory than there is."""
    try:
        picture = small_picture(data, SIDE_PIXELS, charge)
    except _Large:
        raise
    except Exception as error:
        # Pillow answers broken files with many kinds of exception; the model has taken the content, so it stays.
        logger.info("no preview of an image of %d bytes: %s", len(data), type(error).__name__)
        return None
    result = io.BytesIO()
    picture.save(result, "WEBP", quality=80, exif=b"")  # where a picture was taken is not for everybody
    return result.getvalue()
