"""Pages of entries, in the order they were first added, or the other way round."""

from __future__ import annotations

from ..archive.content import ContentType, Entry, Page
from ..archive.errors import InvalidInput
from ..archive.filters import Filter
from . import rows
from .reader import Reader, Row
from .selections import Selections

_LAST = (1 << 63) - 1


class Listing:
    """Finds the pages; what passes a filter is asked of the selections."""

    def __init__(self, reader: Reader, selections: Selections) -> None:
        self._reader = reader
        self._selections = selections

    async def page(
        self,
        user: str | None,
        content_type: ContentType | None,
        limit: int,
        after: str | None,
        filter: Filter | None = None,
        newest: bool = False,
    ) -> Page:
        """The `limit` entries behind the cursor `after`, of one user, one type, what passes a filter, where given.

        In the order they were first added, or with `newest` the last of them first: whoever follows the cursors sees
        each content that stays exactly once, whatever is added or deleted meanwhile. Raises InvalidInput when `after`
        is no cursor.
        """
        if filter is not None:
            return await self._selections.page(user, content_type, limit, _key(after, newest), filter, newest)
        if user is not None:
            by, chosen, values = "contents_by_user", "user = ? AND (? IS NULL OR type = ?)", [user, *[content_type] * 2]
        elif content_type is not None:
            by, chosen, values = "contents_by_type", "type = ?", [content_type]
        else:
            by, chosen, values = "", "true", []
        table = f"contents INDEXED BY {by}" if by else "contents"
        behind, order = ("<", "DESC") if newest else (">", "ASC")
        query = f"SELECT key, {rows.ENTRY} FROM {table} WHERE {chosen} AND key {behind} ? ORDER BY key {order} LIMIT ?"

        def keyed(row: Row) -> tuple[int, Entry]:
            return row[0], rows.entry(row[1:])

        found = await self._reader.rows(keyed, query, *values, _key(after, newest), limit + 1)
        more = len(found) > limit
        return Page([entry for _, entry in found[:limit]], str(found[limit - 1][0]) if more else None)


def _key(cursor: str | None, newest: bool) -> int:
    """Behind which key a page begins; without a cursor all are behind it."""
    if cursor is None:
        return _LAST if newest else 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidInput("after must be the `next` of the page before", "invalid_after")
    return int(cursor)
