"""What an export is made of, and how it goes on where it broke off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .answers import ContentType
from .errors import ArchiveError, CutOff, VersionMismatch, error_of_line
from .lines import CursorLine, ExportedContent, ExportFailedLine
from .retries import Patience
from .wire import Call, queried


class Export:
    """One export, over as many answers as it takes: no content comes twice, and none is left out."""

    def __init__(
        self,
        user: str | None = None,
        type: ContentType | None = None,
        filter: Mapping[str, Any] | None = None,
        after: str | None = None,
        vectors: bool = False,
        previews: bool = False,
        originals: bool = False,
    ) -> None:
        with_what = {"vectors": vectors, "previews": previews, "originals": originals}
        self._said = queried(
            user=user, type=type, filter=filter, **{name: each or None for name, each in with_what.items()}
        )
        self.after = after
        self.done = False
        self._since: set[str] = set()  # ids behind the last cursor
        self._failures = 0
        self._failed_at: str | None = None

    def call(self) -> Call[Any]:
        """The request for what is left."""
        query = self._said | queried(after=self.after)
        return Call("GET", "/export", bytes, query, media="application/x-ndjson")

    def take(self, line: bytes) -> ExportedContent | None:
        """The content that a line holds, if it is new. Raises ArchiveError for a line that says what went wrong."""
        try:
            told = msgspec.json.decode(line)
            if "id" in told:
                content = msgspec.convert(told, ExportedContent)
                if content.id in self._since:
                    return None
                self._since.add(content.id)
                return content
            if "after" in told:
                self.after = msgspec.convert(told, CursorLine).after
                self._since.clear()
            elif "summary" in told:
                self.done = True
            elif "error" in told:
                error = msgspec.convert(told, ExportFailedLine).error
                raise error_of_line(error.code, error.message, error.request_id)
        except msgspec.MsgspecError as error:
            raise VersionMismatch(f"a line of the export is not as this client knows it: {error}") from None
        return None

    def end(self) -> None:
        """Raises CutOff where the answer ended before its last line."""
        if not self.done:
            raise CutOff("the export broke off", retryable=True)

    def pause_s(self, error: ArchiveError, patience: Patience) -> float:
        """How long to wait before going on. Raises the error where that is of no use, or was tried often enough."""
        self._failures = self._failures + 1 if self.after == self._failed_at else 1
        self._failed_at = self.after
        if not error.retryable or self._failures >= patience.attempts:
            raise error
        asked = error.retry_after_s if error.retry_after_s is not None else patience.pause_s * 2**self._failures
        return min(asked, patience.wait_most_s)
