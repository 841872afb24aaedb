"""Sending big pictures smaller: the model sees 224 pixels of them anyway."""

from __future__ import annotations

import io

from .items import ImportFailure


def check_possible() -> None:
    """Raises ImportFailure without Pillow."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise ImportFailure("--shrink needs Pillow: pip install pillow") from None


def shrunk(data: bytes, pixels: int) -> bytes:
    """A picture, upright, with its longer side at most `pixels` long; as it is where it is smaller, or unreadable."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            if max(image.size) <= pixels or getattr(image, "n_frames", 1) > 1:
                return data
            image.draft("RGB", (pixels, pixels))  # a JPEG is decoded at less than its size
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            if upright.mode in ("RGBA", "LA", "P", "PA"):
                upright.save(buffer, "PNG")
            else:
                upright.convert("RGB").save(buffer, "JPEG", quality=92)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return data  # the archive says what is wrong with it
    return buffer.getvalue() if buffer.tell() < len(data) else data
