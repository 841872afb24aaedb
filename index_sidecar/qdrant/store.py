"""Store on a Qdrant cluster: each content is one point, whose payload holds all that is known of it.

Any number of sidecars work on one collection at once, so nothing is remembered here that another one can change. A
point is replaced as a whole; of two writes of one id at the same time, all replicas keep the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any

from ..archive.content import Content, ContentType, Page
from ..archive.filters import Filter, Selection
from ..archive.metadata import Metadata
from ..archive.ports import Written
from . import listing
from .collection import QdrantCollection, matches
from .filters import condition, payload_of
from .kept import KeptTexts, payload_with, preview_of
from .points import WHOLE, content_of, point_id

_DUPLICATES_NAMED = 100
_POINTS_A_STEP = 500  # some 3 MB with their vectors


class QdrantStore:
    """Contents by id. Every method raises StorageUnavailable when no node does it in time."""

    def __init__(self, collection: QdrantCollection) -> None:
        self._collection = collection
        self.originals = KeptTexts(collection)

    async def close(self) -> None:
        """Close the connections."""
        await self._collection.close()

    async def check(self) -> None:
        """Raises StorageUnavailable unless the cluster answers now."""
        await self._collection.answers()

    async def fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while nothing was ever stored."""
        return await self._collection.fingerprint()

    async def check_model(self, fingerprint: str) -> None:
        """Raises ModelMismatch unless vectors of this model may be compared with the stored ones."""
        await self._collection.check_model(fingerprint)

    def erasures_due(self) -> int:
        """None that we know of: when Qdrant rewrites its segments is its own business."""
        return 0

    def events(self) -> Mapping[str, int]:
        """None: each node counts its own."""
        return {}

    async def put(self, content: Content, preview: bytes | None = None, original: bytes | None = None) -> Written:
        """Store a content with its vector, replacing what its id held: on every replica that lives when it returns.

        An `original` is a text's.
        """
        there = {"ids": [point_id(content.id)], "with_payload": False, "with_vector": False}
        replaced = await self._collection.read("/points", there)
        await self.put_all([(content, preview)], {} if original is None else {content.id: original})
        return Written([], _untold() if replaced else None)

    async def put_all(
        self, contents: Sequence[tuple[Content, bytes | None]], originals: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        """Store contents of one model with their previews, and originals by id; of one id twice the last counts."""
        points = {}
        for content, preview in contents:
            held = await payload_with(preview, originals.get(content.id))
            points[point_id(content.id)] = _point(content, held)
        body = {"points": list(points.values())}
        await self._collection.write("PUT", "/points", body, contents[0][0].embedding.fingerprint)

    async def set_metadata(self, content_id: str, metadata: Metadata) -> Written | None:
        """Replace a content's metadata. Of two that do so at the same time on two sidecars, one has the last word."""
        point = point_id(content_id)
        if not await self._collection.read("/points", {"ids": [point], "with_payload": False}):
            return None
        body = {"payload": payload_of(metadata), "filter": {"must": [{"has_id": [point]}]}}
        await self._collection.write("POST", "/points/payload", body)
        return Written([], _untold())

    async def delete(self, content_id: str) -> Written:
        """Erase a content, if there is one."""
        return await self.delete_many([content_id])

    async def delete_many(self, ids: Sequence[str], user: str | None = None) -> Written:
        """Erase some contents; with `user`, only those that are this user's at that moment."""
        if not ids:
            return Written([])
        mine = [matches("user", user)] if user is not None else []
        chosen = {"must": [{"has_id": [point_id(each) for each in ids]}, *mine]}
        found = await self._scroll(chosen, len(ids), with_payload=["id"])
        gone = [point["payload"]["id"] for point in found["points"]] if found else []
        if gone:
            # What another sidecar gave to another user meanwhile stays.
            chosen = {"must": [{"has_id": [point_id(each) for each in gone]}, *mine]}
            await self._collection.write("POST", "/points/delete", {"filter": chosen})
        return Written(gone, _untold() if gone else None)

    async def get(self, content_id: str) -> Content | None:
        """The content stored under an id."""
        found = await self.get_many([content_id])
        return found[0] if found else None

    async def get_many(self, ids: Sequence[str]) -> list[Content]:
        """The contents stored under some ids, in the order they were last written."""
        found: list[Content] = []
        for first in range(0, len(ids), _POINTS_A_STEP):
            body = {"ids": [point_id(each) for each in ids[first : first + _POINTS_A_STEP]], **WHOLE}
            found += [content_of(point) for point in await self._collection.read("/points", body) or ()]
        return sorted(found, key=_age)

    async def preview(self, content_id: str) -> tuple[Content, bytes] | None:
        """A content and its preview; None when there is no such content, or no preview of it."""
        body = {"ids": [point_id(content_id)], "with_payload": True, "with_vector": True}
        for point in await self._collection.read("/points", body) or ():
            if (preview := preview_of(point)) is not None:
                return content_of(point), preview
        return None

    async def same_bytes(self, sha256: bytes, content_type: ContentType) -> list[Content]:
        """Contents of these bytes, in the order they were last written; at most 100."""
        chosen = {"must": [matches("sha256", sha256.hex()), matches("type", content_type)]}
        found = await self._scroll(chosen, _DUPLICATES_NAMED, order_by="created", **WHOLE)
        return sorted(_contents(found), key=_age)

    async def history(self, user: str, content_type: ContentType, limit: int) -> list[Content]:
        """The user's newest contents of a type, newest first."""
        chosen = {"must": [matches("user", user), matches("type", content_type)]}
        newest_first = {"key": "created", "direction": "desc"}
        found = await self._scroll(chosen, limit, order_by=newest_first, **WHOLE)
        return sorted(_contents(found), key=lambda content: (-content.created, content.id))

    async def sample(self, content_type: ContentType, limit: int) -> list[Content]:
        """A deterministic uniform sample: one content of each of the smallest SHA-256 of a type."""
        chosen, order = {"must": [matches("type", content_type)]}, {"key": "sample"}
        ids: dict[str, str] = {}  # by SHA-256
        start: dict[str, int] = {}
        while len(ids) < limit:
            head = {"with_payload": ["id", "sha256", "sample"], "with_vector": False}
            found = await self._scroll(chosen, limit, order_by={**order, **start}, **head)
            points = [point["payload"] for point in found["points"]] if found else []
            for payload in points:
                ids.setdefault(payload["sha256"], payload["id"])
            if len(points) < limit:
                break
            start = {"start_from": points[-1]["sample"] + 1}
        found = await self.get_many([ids[sha256] for sha256 in sorted(ids)[:limit]])
        return sorted(found, key=lambda content: content.sha256)

    async def select(self, filter: Filter) -> Selection:
        """The filter alone: Qdrant finds what passes while it searches."""
        return Selection(filter)

    async def page(
        self,
        user: str | None,
        content_type: ContentType | None,
        limit: int,
        after: str | None,
        filter: Filter | None = None,
        newest: bool = False,
    ) -> Page:
        """As listing.py has it; `newest` is by when a content was last written."""
        chosen = [matches(field, value) for field, value in (("user", user), ("type", content_type)) if value]
        chosen += [condition(filter)] if filter is not None else []
        return await (listing.newest if newest else listing.page)(self._collection, chosen, limit, after)

    async def count(self, content_type: ContentType | None = None) -> int:
        """How many contents are stored, of one type if said: exactly, which takes Qdrant long, so not for every day."""
        chosen = {"must": [matches("type", content_type)]} if content_type is not None else {}
        found = await self._collection.read("/points/count", {"filter": chosen, "exact": True})
        return int(found["count"]) if found else 0

    async def _scroll(self, chosen: dict[str, Any], limit: int, **options: Any) -> Any:
        return await listing.scroll(self._collection, chosen, limit, **options)


def _point(content: Content, held: dict[str, Any]) -> dict[str, Any]:
    embedding = content.embedding
    payload = {
        "id": content.id,
        "type": content.type,
        "user": content.user,
        "sha256": content.sha256.hex(),
        "created": content.created,
        "truncated": embedding.truncated,
        "model": embedding.fingerprint,
        "sample": int.from_bytes(content.sha256[:8]) >> 1,  # Qdrant orders by signed 64-bit integers
        **held,
        **(payload_of(content.metadata) if content.metadata else {}),
    }
    return {
        "id": point_id(content.id),
        "vector": embedding.vector.tolist(),
        "payload": {name: value for name, value in payload.items() if value is not None},
    }


def _untold() -> Future[None]:
    """For what Qdrant overwrites when it rewrites its segments: nobody is told when that is."""
    future: Future[None] = Future()
    future.cancel()
    return future


def _age(content: Content) -> tuple[float, str]:
    return content.created, content.id


def _contents(found: Any) -> list[Content]:
    return [content_of(point) for point in found["points"]] if found else []
