"""One picture file -> the 224 x 224 pixels CLIP looks at: OpenAI's transform, made safe for files from strangers.

The transform is `_transform` of https://github.com/openai/CLIP (clip/clip.py); docs/pictures.md tells where this
differs. It runs in a process of its own (`clip_decoder.py`), but knows nothing of it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

import clip_colours
import clip_files
import numpy as np
import pillow_heif
from clip_inputs import IMAGE_SIDE, Picture, Refusal
from clip_limits import Limits
from clip_signatures import PILLOW_NAMES, name_of
from PIL import AvifImagePlugin, ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

_TRANSPOSE = {  # as PIL.ImageOps.exif_transpose has it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Bytes of a pixel in Pillow's memory; 4 in all other modes.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
# What decoders hold for a pixel beside Pillow's picture: planes of YUV.
_WEBP = 24  # frames of an animation, Pillow's picture, and what transparency takes
_DECODER = {"HEIF": 14, "AVIF": 14, "GIF": 2}
_STRIP = 8  # of a TIFF, of 16 bits and four samples

_STRIP_ROWS = 256
_Box = tuple[float, float, float, float]
_Strip = tuple[int, int, int, int]

# Our own cap is checked on the header, before a pixel is decoded; Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # several pictures are decoded at once anyway
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def _free(needed_bytes: int) -> None:
    """Memory is no matter here."""


def decode_image(data: bytes, limits: Limits, charge: Callable[[int], None] = _free) -> Picture:
    """The upright picture on its background, its short side resized to 224, the middle of it.

    Of an animation the first frame. `charge` is told how many bytes decoding takes, before it begins, and may raise.
    Raises Refusal: 415 not one of the formats; 413 more than `max_pixels` pixels or too many scans, before anything is
    decoded; 400 empty, broken or truncated.
    """
    if not data:
        raise Refusal(400, "empty_image", "the image is empty: send the bytes of an image file as the body")
    webp = clip_files.size_of_webp(data)
    if webp is not None:  # Pillow would allocate the frames while it opens the file
        _check_size(webp, limits.max_pixels)
        charge(_WEBP * webp[0] * webp[1] + 3 * len(data))
    image = _open(data, limits.formats)
    _check_size(image.size, limits.max_pixels)
    coefficients = _refuse_the_unreadable(image, data)
    with _blaming(image.format):
        # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size while that leaves twice the pixels that are needed:
        # a 12-megapixel photograph in an eighth of the time, its vector hardly changed (bench/embedding.py).
        image.draft(None, (2 * IMAGE_SIDE, 2 * IMAGE_SIDE))
    if webp is None:
        charge(coefficients + _decoding_bytes(image, len(data)))
    with _blaming(image.format):
        image.load()
    orientation = _orientation(image)
    image = clip_colours.resizable(image)  # what it was converted from is free from here on
    return np.asarray(_centre_square(image, orientation))


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        reason = f"the picture has {width * height} pixels ({width}x{height}), more than the {max_pixels} allowed"
        raise Refusal(413, "too_many_pixels", reason)


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    try:
        file = io.BytesIO(clip_files.png_without_metadata(data))
        return Image.open(file, formats=[PILLOW_NAMES[name] for name in formats])
    except UnidentifiedImageError:
        raise _unidentified(data, formats) from None
    except MemoryError:
        raise
    except Exception:
        # Pillow's parsers answer broken headers with many kinds of exception; all mean the same to the sender.
        raise _broken(name_of(data)) from None


def _unidentified(data: bytes, formats: tuple[str, ...]) -> Refusal:
    name, names = name_of(data), ", ".join(formats)
    if name is None:
        return Refusal(415, "unsupported_image", f"not an image in one of the formats {names}")
    if name not in formats:
        what = f"{name} is switched off here" if name in PILLOW_NAMES else f"this is {name}, which is not read here"
        return Refusal(415, "unsupported_image", f"{what}: send an image in one of the formats {names}")
    if name == "TIFF" and _unknown_tiff(data):
        return _unread_tiff("its samples or its compression are unknown here")
    return _broken(name)


def _unknown_tiff(data: bytes) -> bool:
    """Whether Pillow has understood a TIFF's header, and only cannot read what it tells of."""
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(data)).close()
    except SyntaxError as error:
        return str(error) == "unknown pixel mode" or isinstance(error.__cause__, KeyError)
    except Exception:
        return False
    return False


def _refuse_the_unreadable(image: Image.Image, data: bytes) -> int:
    """Refuse what Pillow would turn into another picture, or be at for minutes; -> bytes of a JPEG's coefficients."""
    coefficients = 0
    if image.mode == "P" and image.palette is None:
        raise _broken(image.format)
    if image.format in ("JPEG", "MPO"):
        scans = clip_files.scans_of_jpeg(data)
        if scans > clip_files.MOST_SCANS:
            reason = f"a JPEG of more than {clip_files.MOST_SCANS} scans takes too long to decode: save it anew"
            raise Refusal(413, "too_costly", reason)
        if scans > 1:  # libjpeg keeps all of them, 16 bits each, until the last scan is in
            coefficients = 2 * len(image.getbands()) * image.width * image.height
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        planar = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
        if planar and tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) > 1:
            bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))
            # Pillow reads planes byte by byte, whatever they hold.
            if set(bits if isinstance(bits, tuple) else (bits,)) != {8}:
                raise _unread_tiff("its colours lie in planes of more or less than 8 bits")
    return coefficients


def _unread_tiff(why: str) -> Refusal:
    reason = f"a TIFF of a kind that cannot be read ({why}): save it as PNG, or as TIFF with 8 bits a sample"
    return Refusal(415, "unsupported_image", reason)


@contextlib.contextmanager
def _blaming(name: str | None) -> Iterator[None]:
    """While Pillow decodes, whatever it raises means a broken file; only memory is no fault of the sender's."""
    try:
        yield
    except MemoryError:
        raise
    except Exception:
        raise _broken(name) from None


def _broken(name: str | None) -> Refusal:
    return Refusal(400, "unreadable_image", f"the {name or 'image'} file is broken or truncated")


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF counts. Broken EXIF data only loses the turn. Pillow has turned a TIFF, and forgotten its tag."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return orientation if orientation in _TRANSPOSE else 1


def _decoding_bytes(image: Image.Image, file_bytes: int) -> int:
    """How much memory loading and converting takes at most."""
    mode = image.mode
    stored = _STORED.get(mode, 4)
    a_pixel: float = stored + _DECODER.get(image.format or "", 0)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        rows = image.tag_v2.get(TiffImagePlugin.ROWSPERSTRIP, image.height)
        a_pixel += _STRIP * min(1.0, rows / image.height) if isinstance(rows, int) else _STRIP
        if image.tag_v2.get(ExifTags.Base.Orientation, 1) != 1:
            a_pixel += stored  # turned while it is loaded
    if image.has_transparency_data:
        a_pixel += 4 if mode in ("RGBA", "LA") else 8  # on the way to premultiplied colours
    elif mode in ("P", "LAB", "YCbCr", "HSV"):
        a_pixel += 4
    elif stored != 1 and mode not in ("RGB", "CMYK"):
        a_pixel += 2  # 8 bits of grey
    # The file is here three times: as it came, without metadata, and as the decoder has read it.
    return int(a_pixel * image.width * image.height) + 3 * file_bytes


def _centre_square(image: Image.Image, orientation: int) -> Image.Image:
    """Bicubic resize of the short side to 224, then the middle 224x224: torchvision's Resize and CenterCrop."""
    width, height = image.size if orientation < 5 else image.size[::-1]
    short = min(width, height)
    # Sides as torchvision computes them; at least 224 even for pictures one pixel wide.
    resized = (IMAGE_SIDE * width // short, IMAGE_SIDE * height // short)
    # Resizing only the square that is kept would move its samples by a fraction of a pixel, so the box handed to
    # `resize` is the exact pre-image of the crop: same filter positions, without computing what the crop drops.
    left = round((resized[0] - IMAGE_SIDE) / 2.0)
    top = round((resized[1] - IMAGE_SIDE) / 2.0)
    scale_x, scale_y = width / resized[0], height / resized[1]
    right, bottom = min((left + IMAGE_SIDE) * scale_x, width), min((top + IMAGE_SIDE) * scale_y, height)
    box: _Box = (left * scale_x, top * scale_y, right, bottom)
    behind = clip_colours.background(image)
    if orientation in _TRANSPOSE:
        image, box = _first_pass(image, orientation, (width, height), box)
    return clip_colours.shown(image.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC, box=box), behind)


def _first_pass(image: Image.Image, orientation: int, upright: tuple[int, int], box: _Box) -> tuple[Image.Image, _Box]:
    """The upright picture with one side resized to 224 already, and what `box` is in it.

    Turned and resized strip by strip: the result is that of turning all of it first, to the bit, without a second copy.
    For that, it is the side that Pillow resizes first: it rounds in between, and begins with what costs less.
    """
    width, height = upright
    left, top, right, bottom = box
    across = height <= max(IMAGE_SIDE, 2 * width - IMAGE_SIDE)
    length = height if across else width
    result = Image.new(image.mode, (IMAGE_SIDE, length) if across else (length, IMAGE_SIDE))
    for start in range(0, length, _STRIP_ROWS):
        end = min(start + _STRIP_ROWS, length)
        strip = (0, start, width, end) if across else (start, 0, end, height)
        size = (IMAGE_SIDE, end - start) if across else (end - start, IMAGE_SIDE)
        part: _Box = (left, 0, right, end - start) if across else (0, top, end - start, bottom)
        turned = image.crop(_in_the_file(strip, orientation, upright)).transpose(_TRANSPOSE[orientation])
        result.paste(turned.resize(size, Image.Resampling.BICUBIC, box=part), strip[:2])
    return result, (0, top, IMAGE_SIDE, bottom) if across else (left, 0, right, IMAGE_SIDE)


def _in_the_file(
    box: tuple[int, int, int, int], orientation: int, upright: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Where a box of the upright picture lies in the one that is stored."""
    left, top, right, bottom = box
    width, height = upright
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)
