"""All contents of an archive, a page at a time, so that what is held does not grow with the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from .content import Content, Entry
from .ports import Store
from .search import Listed

_A_PAGE = 100  # with their previews some 2 MB
_A_PAGE_OF_ORIGINALS = 20  # texts of 1 MB


class Exported(NamedTuple):
    """A content as it goes out: with its vector as a Content, without it as an Entry."""

    content: Content | Entry
    preview: bytes | None
    original: bytes | None


class ExportedPage(NamedTuple):
    """Some contents, and the cursor behind them; None at the end."""

    contents: list[Exported]
    next: str | None


class Exporter:
    """Reads a store from one end to the other, beside everything else it does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def pages(
        self, of: Listed, after: str | None, vectors: bool, previews: bool, originals: bool = False
    ) -> AsyncIterator[ExportedPage]:
        """Each content that is there all the time once, as it is when its page is read; `originals` of texts alone.

        Raises InvalidInput for a cursor that is none, StorageUnavailable.
        """
        limit = _A_PAGE_OF_ORIGINALS if originals else _A_PAGE
        while True:
            page = await self._store.page(of.user, of.type, limit, after, of.filter)
            found: list[Content | Entry] = list(page.contents)
            if vectors and found:
                whole = {each.id: each for each in await self._store.get_many([each.id for each in found])}
                found = [whole[each.id] for each in found if each.id in whole]  # others are erased meanwhile
            yield ExportedPage([await self._exported(each, previews, originals) for each in found], page.next)
            after = page.next
            if after is None:
                return

    async def _exported(self, content: Content | Entry, previews: bool, originals: bool) -> Exported:
        preview = await self._store.preview(content.id) if previews else None
        original = await self._original(content) if originals and content.type == "text" else None
        return Exported(content, preview[1] if preview else None, original)

    async def _original(self, content: Content | Entry) -> bytes | None:
        found = await self._store.originals.open(content.id)
        if found is None:
            return None
        of, kept = found
        try:
            # Another's, which took the id meanwhile, is none of this one's.
            return await kept.read(0, kept.size) if (of.type, of.sha256) == (content.type, content.sha256) else None
        finally:
            kept.close()
