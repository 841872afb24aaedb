"""The lines of answers that name many contents: an add of many, an export."""

from __future__ import annotations

import base64

from msgspec import Struct

from .answers import AddAnswer, ContentType, Error, Metadata


class AddedLine(Struct, frozen=True):
    """What became of one content of many; `part` counts from 1."""

    part: int
    content: AddAnswer


class FailedLine(Struct, frozen=True):
    """Why one content of many was not added."""

    part: int
    id: str | None
    error: Error


class Summary(Struct, frozen=True):
    """How many contents of one call became what; `complete`: the whole call was read."""

    added: int
    replaced: int
    unchanged: int
    failed: int
    complete: bool


class SummaryLine(Struct, frozen=True):
    """The last line: where it is missing, the answer was cut off."""

    summary: Summary


class ExportedContent(Struct, frozen=True, omit_defaults=True):
    """A content as it is exported: `vector`, `preview` and a text's `original` in base64, where they were asked for.

    `sha256` of its bytes in hex; `created` in Unix seconds; `model` is the fingerprint that the vector is of.
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

    @property
    def vector_bytes(self) -> bytes | None:
        """512 float32, little-endian, of unit length."""
        return None if self.vector is None else base64.b64decode(self.vector)


class CursorLine(Struct, frozen=True):
    """All that stands before it need not be asked for again: `after` says where to go on."""

    after: str


class ExportSummary(Struct, frozen=True):
    """How many contents one answer named."""

    contents: int


class ExportEndLine(Struct, frozen=True):
    """The last line: where it is missing, the answer was cut off."""

    summary: ExportSummary


class ExportFailedLine(Struct, frozen=True):
    """Why an answer ends too early."""

    error: Error
