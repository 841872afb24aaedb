"""The lines of answers that name many contents: an add of many, an export."""

from __future__ import annotations

from msgspec import Struct

from ..archive.content import ContentType
from .shapes import AddAnswer, Error, Metadata


class AddedLine(Struct, frozen=True):
    """What became of one content of many; `part` counts from 1."""

    part: int
    content: AddAnswer


class FailedLine(Struct, frozen=True):
    """Why one content of many was not added; `id` as far as it is known."""

    part: int
    id: str | None
    error: Error


class Summary(Struct, frozen=True):
    """How many contents became what; `complete` is false where the form ended too early to know of all."""

    added: int
    replaced: int
    unchanged: int
    failed: int
    complete: bool


class SummaryLine(Struct, frozen=True):
    """The last line: where it is missing, the answer was cut off."""

    summary: Summary


class ExportedContent(Struct, frozen=True, omit_defaults=True):
    """All that is stored of a content; what `POST /contents` takes from an admin.

    `vector` is base64 of 512 little-endian float32, of the model whose fingerprint is `model`; so is `preview`.
    `original` is base64 of a text's bytes; a picture's are had by a call of their own.
    """

    id: str
    type: ContentType
    user: str | None
    sha256: str
    created: float
    truncated: bool
    metadata: Metadata = {}
    vector: str | None = None
    model: str | None = None
    preview: str | None = None
    original: str | None = None


class CursorLine(Struct, frozen=True):
    """Where an export that breaks off behind this line goes on."""

    after: str


class ExportSummary(Struct, frozen=True):
    """How many contents one answer named."""

    contents: int


class ExportEndLine(Struct, frozen=True):
    """The last line: where it is missing, the answer was cut off."""

    summary: ExportSummary


class ExportFailedLine(Struct, frozen=True):
    """Why an export ends before its end."""

    error: Error
