"""A line of an export -> the content it is of, checked as if nobody had written it before."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

import msgspec
import numpy as np

from ..archive.content import DIMENSION, Content, ContentType, Embedding, Vector, check_id, digest
from ..archive.errors import InvalidInput
from ..archive.metadata import check_metadata
from .lines import ExportedContent

_LEAST_BYTES = 1 << 18
_BESIDE_BYTES = 1 << 17
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MODEL = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)
_LATEST = 1e11  # in Unix seconds
_UNIT = 1e-3


class Exported(NamedTuple):
    """All that a line tells."""

    content: Content
    preview: bytes | None
    original: bytes | None


def most_bytes(text_bytes: int) -> int:
    """How long a line may be, where a text may have so many bytes: all else has room many times over."""
    return max(_LEAST_BYTES, _BESIDE_BYTES + 4 * text_bytes // 3)


def read_exported(line: bytes) -> Exported:
    """The content with its vector, its preview and its original. Raises InvalidInput, which says what is wrong."""
    try:
        told = msgspec.json.decode(line, type=ExportedContent)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _wrong(str(error)) from None
    if told.user is not None:
        check_id(told.user, "user")
    if told.vector is None or told.model is None:
        raise _wrong("a line without `vector` and `model` cannot be taken over: export it with vectors=true")
    if not _SHA256.fullmatch(told.sha256):
        raise _wrong("64 lower-case hex digits - at `$.sha256`")
    if not _MODEL.fullmatch(told.model):
        raise _wrong("no fingerprint of a model - at `$.model`")
    if not 0 <= told.created <= _LATEST:
        raise _wrong("Unix seconds - at `$.created`")
    embedding = Embedding(_vector(told.vector), told.model, told.truncated)
    sha256, metadata = bytes.fromhex(told.sha256), check_metadata(told.metadata)
    content = Content(check_id(told.id), told.type, told.user, sha256, told.created, embedding, metadata)
    preview = None if told.preview is None else _preview(told.preview, told.type)
    return Exported(content, preview, None if told.original is None else _original(told.original, content))


def _vector(written: str) -> Vector:
    data = _bytes(written, "vector")
    vector = np.frombuffer(data, "<f4") if len(data) == 4 * DIMENSION else np.zeros(0, np.float32)
    # As of the model's own: anything else than a unit vector would poison the ranking for good.
    if vector.size != DIMENSION or not abs(float(vector @ vector) - 1.0) < _UNIT:
        raise _wrong(f"base64 of {DIMENSION} little-endian float32 of unit length - at `$.vector`")
    return vector


def _preview(written: str, content_type: ContentType) -> bytes:
    data = _bytes(written, "preview")
    if content_type == "image" and not (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        raise _wrong("the preview of an image is a WebP - at `$.preview`")
    if content_type == "text":
        try:
            data.decode()
        except UnicodeDecodeError:
            raise _wrong("the preview of a text is UTF-8 - at `$.preview`") from None
    return data


def _original(written: str, content: Content) -> bytes:
    data = _bytes(written, "original")
    if content.type != "text":
        raise _wrong("the original of an image is posted by itself - at `$.original`")
    if digest(data) != content.sha256:
        raise _wrong("not the bytes that `sha256` is of - at `$.original`")
    return data


def _bytes(written: str, name: str) -> bytes:
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(f"no base64 - at `$.{name}`") from None


def _wrong(message: str) -> InvalidInput:
    return InvalidInput(f"exported: {message}", "invalid_exported")
