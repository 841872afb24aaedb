"""Parameters whose values are JSON; the archive reads them, and says where they are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..archive.filters import Filter, read_filter
from ..archive.metadata import Metadata, read_metadata


@dataclass(frozen=True)
class MetadataKind:
    """A flat JSON object."""

    def read(self, name: str, value: str) -> Metadata:
        """As metadata.py has it."""
        return read_metadata(value)

    def schema(self) -> dict[str, Any]:
        """As parameters.Kind says."""
        return {"type": "string", "contentMediaType": "application/json"}


@dataclass(frozen=True)
class FilterKind:
    """A filter in JSON."""

    def read(self, name: str, value: str) -> Filter:
        """As filters.py has it."""
        return read_filter(value)

    def schema(self) -> dict[str, Any]:
        """As parameters.Kind says."""
        return {"type": "string", "contentMediaType": "application/json"}
