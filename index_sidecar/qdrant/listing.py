"""Pages of entries: by their points' ids, which is no order for people, or the newest first."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any

from ..archive.content import Entry, Page
from ..archive.errors import InvalidInput
from .collection import QdrantCollection
from .filters import metadata_in

ENTRY: dict[str, Any] = {"with_payload": {"exclude": ["preview", "original"]}, "with_vector": False}
_NEWEST = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)((?:,[0-9a-f-]{36}){1,200})", re.ASCII)

Point = dict[str, Any]


async def scroll(collection: QdrantCollection, chosen: dict[str, Any], limit: int, **options: Any) -> Any:
    """Points that pass a filter; None where there is no collection yet."""
    return await collection.read("/points/scroll", {"filter": chosen, "limit": limit, **options})


async def page(collection: QdrantCollection, must: Sequence[Any], limit: int, after: str | None) -> Page:
    """Up to `limit` entries that pass all of `must`, from the point `after` on. Raises InvalidInput."""
    start = {"offset": _point(after)} if after is not None else {}
    found = await scroll(collection, {"must": must}, limit, **start, **ENTRY)
    return Page([entry(point) for point in found["points"]], found["next_page_offset"]) if found else Page([], None)


async def newest(collection: QdrantCollection, must: Sequence[Any], limit: int, after: str | None) -> Page:
    """The same by when they were last written, the newest first. Raises InvalidInput.

    The cursor names the instant of the last entry, and the points of that instant that were given already.
    """
    chosen: dict[str, Any] = {"must": list(must)}
    created, given = _instant(after) if after is not None else (None, [])
    if created is not None:
        chosen["must"].append({"key": "created", "range": {"lte": created}})
        chosen["must_not"] = [{"has_id": given}]
    order = {"key": "created", "direction": "desc"}
    found = await scroll(collection, chosen, limit, order_by=order, **ENTRY)
    points: list[Point] = found["points"] if found else []
    if len(points) < limit:
        return Page([entry(point) for point in points], None)
    last = points[-1]["payload"]["created"]
    same = [point["id"] for point in points if point["payload"]["created"] == last]
    return Page([entry(point) for point in points], ",".join([str(last), *same, *(given if last == created else [])]))


def entry(point: Point) -> Entry:
    """What a point holds but its vector, its preview and its original."""
    payload = point["payload"]
    sha256 = bytes.fromhex(payload["sha256"])
    head = payload["id"], payload["type"], payload.get("user"), sha256, payload["created"], payload["truncated"]
    return Entry(*head, metadata_in(payload))


def _point(after: str) -> str:
    try:
        return str(uuid.UUID(after))
    except ValueError:
        raise _no_cursor() from None


def _instant(after: str) -> tuple[float, list[str]]:
    match = _NEWEST.fullmatch(after)
    if match is None:
        raise _no_cursor()
    return float(match[1]), [_point(each) for each in match[2].removeprefix(",").split(",")]


def _no_cursor() -> InvalidInput:
    return InvalidInput("after must be the `next` of the page before", "invalid_after")
