"""All contents of an archive, a page at a time, so that what is held does not grow with the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from .content import Content, Entry
from .ports import Store
from .search import Listed

_A_PAGE = 100  # with their previews some 2 MB


class Exported(NamedTuple):
    """A content as it goes out: with its vector as a Content, without it as an Entry."""

    content: Content | Entry
    preview: bytes | None


class ExportedPage(NamedTuple):
    """Some contents, and the cursor behind them; None at the end."""

    contents: list[Exported]
    next: str | None


class Exporter:
    """Reads a store from one end to the other, beside everything else it does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def pages(self, of: Listed, after: str | None, vectors: bool, previews: bool) -> AsyncIterator[ExportedPage]:
        """Each content that is there all the time once, as it is when its page is read.

        Raises InvalidInput for a cursor that is none, StorageUnavailable.
        """
        while True:
            page = await self._store.page(of.user, of.type, _A_PAGE, after, of.filter)
            found: list[Content | Entry] = list(page.contents)
            if vectors and found:
                whole = {each.id: each for each in await self._store.get_many([each.id for each in found])}
                found = [whole[each.id] for each in found if each.id in whole]  # others are erased meanwhile
            yield ExportedPage([Exported(each, await self._preview(each.id, previews)) for each in found], page.next)
            after = page.next
            if after is None:
                return

    async def _preview(self, content_id: str, wanted: bool) -> bytes | None:
        found = await self._store.preview(content_id) if wanted else None
        return found[1] if found else None
