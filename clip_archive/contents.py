"""What callers hand over: contents to add, and parts of a question."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .answers import ContentType

Data = str | bytes | os.PathLike[str]
"""A string is a text itself; a path is the file it names; bytes are a picture's, unless `type` says otherwise."""


@dataclass(frozen=True)
class Item:
    """One content of many to add. `type` may be left out as `Data` says."""

    id: str
    content: Data = field(repr=False)
    type: ContentType | None = None
    user: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Exported:
    """One line of an export, which an admin adds as it is: its vector is taken over, and the model is not asked."""

    line: bytes = field(repr=False)


@dataclass(frozen=True)
class Part:
    """One part of a question: exactly one of `text`, `id` (of a stored content) and `picture`.

    `weight` is how much it counts against the others; a negative one leads away.
    """

    text: str | None = None
    id: str | None = None
    picture: bytes | os.PathLike[str] | None = field(default=None, repr=False)
    weight: float = 1.0


def data_of(content: Data) -> bytes:
    """The bytes of a content. Raises OSError."""
    if isinstance(content, str):
        return content.encode()
    return bytes(content) if isinstance(content, bytes | bytearray) else Path(content).read_bytes()


def type_of(content: Data, said: ContentType | None) -> ContentType:
    """What a content is."""
    return said or ("text" if isinstance(content, str) else "image")
