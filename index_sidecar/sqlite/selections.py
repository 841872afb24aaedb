"""What passes a filter: found by SQLite over the indexed rows of metadata.py, and kept while nothing changes."""

from __future__ import annotations

import asyncio
import json
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..archive.content import ContentType, Entry, Page
from ..archive.filters import Condition, Filter, Match, Operator, Range, Selection
from . import rows
from .metadata import hash_of
from .reader import Reader, Row

_SIGNS: dict[Operator, str] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MOST_BYTES_KEPT = 128 * 1024 * 1024  # 1.5 million ids of twenty characters
_BYTES_A_FILTER = 1 << 16  # at most, with what is kept of it elsewhere
_BYTES_A_PLACE = 16  # in the two sequences
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, eq=False)
class Selected(Selection):
    """With the key of each id as well, in their order, and what memory all of it takes."""

    keys: Sequence[int] = ()
    bytes: int = 0


class Selections:
    """Selects by a connection of its own, so that a filter that much passes holds up no other read."""

    def __init__(self, reader: Reader, salt: bytes, most_bytes: int = _MOST_BYTES_KEPT) -> None:
        """What is kept takes at most so much memory."""
        self._most_bytes = most_bytes
        self.kept_bytes = 0
        self._reader = reader
        self._salt = salt
        self._changes = 0
        self._kept: OrderedDict[Filter, Selected] = OrderedDict()
        self._finding: dict[tuple[int, Filter], asyncio.Task[Selected]] = {}

    def changed(self) -> None:
        """A write is committed, and not acknowledged yet: what was found before it is out of date."""
        self._changes += 1
        self._kept.clear()
        self.kept_bytes = 0

    async def select(self, chosen: Filter) -> Selected:
        """What passes now. Raises StorageUnavailable. Who asks for the same at once shares the answer."""
        kept = self._kept.get(chosen)
        if kept is not None:
            self._kept.move_to_end(chosen)
            return kept
        question = self._changes, chosen
        finding = self._finding.get(question)
        if finding is None:
            finding = self._finding[question] = asyncio.create_task(self._find(chosen))
            finding.add_done_callback(lambda done: self._found(question, done))
        return await asyncio.shield(finding)

    def _found(self, question: tuple[int, Filter], done: asyncio.Task[Selected]) -> None:
        del self._finding[question]
        if not done.cancelled():
            done.exception()  # nobody may be there any more to be told

    async def _find(self, chosen: Filter) -> Selected:
        changes = self._changes
        where, values = condition(chosen, self._salt)
        # In one row, which SQLite makes without Python's lock, in half the time.
        query = f"""
            SELECT json_group_array(key), json_group_array(id)
            FROM (SELECT key, id FROM contents WHERE {where} ORDER BY key)
        """
        ((keys, ids, size),) = await self._reader.rows(_columns, query, *values)
        selected = Selected(chosen, ids, keys, size)
        if changes == self._changes:
            self._keep(chosen, selected)
        return selected

    def _keep(self, chosen: Filter, selected: Selected) -> None:
        if selected.bytes > self._most_bytes:
            return
        self._kept[chosen] = selected
        self.kept_bytes += selected.bytes
        while self.kept_bytes > self._most_bytes:
            self.kept_bytes -= self._kept.popitem(last=False)[1].bytes

    async def page(
        self, user: str | None, content_type: ContentType | None, limit: int, after: int, chosen: Filter, newest: bool
    ) -> Page:
        """The `limit` entries behind the key `after` that pass a filter, of one user and type where they are given."""
        own = [(name, value) for name, value in (("user", user), ("type", content_type)) if value is not None]
        if own:
            chosen = Filter(must=(chosen, *(Match(name, (f"s{value}",)) for name, value in own)))
        keys = (await self.select(chosen)).keys
        if newest:
            last = bisect_left(keys, after)
            some, more = keys[max(0, last - limit) : last][::-1], last > limit
        else:
            first = bisect_right(keys, after)
            some, more = keys[first : first + limit], first + limit < len(keys)
        order = "DESC" if newest else "ASC"
        query = f"""
            SELECT {rows.ENTRY} FROM contents WHERE key IN (SELECT value FROM json_each(?)) ORDER BY key {order}
        """
        entries: list[Entry] = await self._reader.rows(rows.entry, query, json.dumps(list(some)))
        return Page(entries, str(some[-1]) if more else None)


def _columns(row: Row) -> tuple[Sequence[int], list[str], int]:
    """Keys, ids, and the bytes that both take."""
    keys, ids = array("q", json.loads(row[0])), json.loads(row[1])
    return keys, ids, sum(map(sys.getsizeof, ids)) + _BYTES_A_PLACE * len(ids) + _BYTES_A_FILTER


def condition(chosen: Condition, salt: bytes) -> tuple[str, list[Any]]:
    """A condition on a row of `contents` in SQL, and the values to bind: true or false of every row, never NULL."""
    if isinstance(chosen, Match):
        return _match(chosen, salt)
    if isinstance(chosen, Range):
        return _range(chosen, salt)
    pieces, values = ["true"], list[Any]()
    for clause, joined, shape in (
        (chosen.must, " AND ", "({})"),
        (chosen.should, " OR ", "({})"),
        (chosen.must_not, " OR ", "NOT ({})"),
    ):
        if clause:
            parts = [condition(each, salt) for each in clause]
            pieces.append(shape.format(joined.join(part for part, _ in parts)))
            values += [value for _, bound in parts for value in bound]
    return "(" + " AND ".join(pieces) + ")", values


def _match(match: Match, salt: bytes) -> tuple[str, list[Any]]:
    if match.key in ("type", "user"):
        column = match.key
        return f"({column} IS NOT NULL AND {column} IN (SELECT value FROM json_each(?)))", [json.dumps(match.texts())]
    hashes = [hash_of(salt, match.key, term) for term in match.terms]
    if len(hashes) == 1:
        return "key IN (SELECT content FROM terms WHERE term = ?)", list(hashes)
    within = "term IN (SELECT value FROM json_each(?))"
    return f"key IN (SELECT content FROM terms WHERE {within})", [json.dumps(hashes)]


def _range(bounds: Range, salt: bytes) -> tuple[str, list[Any]]:
    limits: list[Any] = [limit for _, limit in bounds.bounds]
    if bounds.key == "created":
        limits = [limit / _MICROSECONDS if bounds.kind == "date" else limit for limit in limits]
        return "(" + " AND ".join(f"created {_SIGNS[each]} ?" for each, _ in bounds.bounds) + ")", limits
    within = " AND ".join(f"number {_SIGNS[each]} ?" for each, _ in bounds.bounds)
    name = hash_of(salt, bounds.key, bounds.kind)
    return f"key IN (SELECT content FROM numbers WHERE name = ? AND {within})", [name, *limits]
