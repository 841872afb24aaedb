"""What passes a filter: found by SQLite over the indexed rows of metadata.py, and kept while nothing changes."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..archive.content import ContentType, Entry, Page
from ..archive.filters import Condition, Filter, Match, Operator, Range, Selection
from . import rows
from .metadata import hash_of
from .reader import Reader, Row

Keys = npt.NDArray[np.int64]

_BUILT_IN = ("type", "user", "created")
_SIGNS: dict[Operator, str] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MOST_BYTES_KEPT = 128 * 1024 * 1024  # of eight million contents that pass
_BYTES_A_FILTER = 1 << 16  # at most, with what is kept of it elsewhere
_BYTES_A_KEY = 16  # with the row that the index keeps of it
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, eq=False)
class Selected(Selection):
    """With what memory it takes."""

    keys: Keys = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def bytes(self) -> int:
        """Of the keys, and of what others keep of them."""
        return len(self.keys) * _BYTES_A_KEY + _BYTES_A_FILTER


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
        passing, values = _passing(chosen, self._salt)
        # In one row, which SQLite makes without Python's lock, in a third of the time.
        query = f"SELECT group_concat(key) FROM ({passing} ORDER BY key)"
        (keys,) = await self._reader.rows(_keys, query, *values)
        selected = Selected(chosen, keys)
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
            last = int(np.searchsorted(keys, after, "left"))
            some, more = keys[max(0, last - limit) : last][::-1], last > limit
        else:
            first = int(np.searchsorted(keys, after, "right"))
            some, more = keys[first : first + limit], first + limit < len(keys)
        order = "DESC" if newest else "ASC"
        query = f"""
            SELECT {rows.ENTRY} FROM contents WHERE key IN (SELECT value FROM json_each(?)) ORDER BY key {order}
        """
        entries: list[Entry] = await self._reader.rows(rows.entry, query, json.dumps(some.tolist()))
        return Page(entries, str(some[-1]) if more else None)


def _keys(row: Row) -> Keys:
    return np.fromstring(row[0] or "", np.int64, sep=",")


def _passing(chosen: Condition, salt: bytes) -> tuple[str, list[Any]]:
    """A query for the keys of what passes, and the values to bind.

    Where all that is asked is metadata of one name, its table has them: each row of `contents` needs not be looked at.
    """
    while isinstance(chosen, Filter) and not chosen.must_not and len(alone := chosen.must + chosen.should) == 1:
        (chosen,) = alone
    if isinstance(chosen, Filter) or chosen.key in _BUILT_IN:
        where, values = condition(chosen, salt)
        return f"SELECT key FROM contents WHERE {where}", values
    within, values = _within(chosen, salt)
    return f"SELECT DISTINCT content AS key FROM {within}", values


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
    within, values = _within(match, salt)
    return f"key IN (SELECT content FROM {within})", values


def _range(bounds: Range, salt: bytes) -> tuple[str, list[Any]]:
    limits: list[Any] = [limit for _, limit in bounds.bounds]
    if bounds.key == "created":
        limits = [limit / _MICROSECONDS if bounds.kind == "date" else limit for limit in limits]
        return "(" + " AND ".join(f"created {_SIGNS[each]} ?" for each, _ in bounds.bounds) + ")", limits
    within, values = _within(bounds, salt)
    return f"key IN (SELECT content FROM {within})", values


def _within(leaf: Match | Range, salt: bytes) -> tuple[str, list[Any]]:
    """The rows of metadata that answer a condition on it: a table and what they have to be."""
    if isinstance(leaf, Range):
        limits = " AND ".join(f"number {_SIGNS[each]} ?" for each, _ in leaf.bounds)
        name = hash_of(salt, leaf.key, leaf.kind)
        return f"numbers WHERE name = ? AND {limits}", [name, *(limit for _, limit in leaf.bounds)]
    hashes = [hash_of(salt, leaf.key, term) for term in leaf.terms]
    if len(hashes) == 1:
        return "terms WHERE term = ?", list(hashes)
    return "terms WHERE term IN (SELECT value FROM json_each(?))", [json.dumps(hashes)]
