"""The contents' collection on a Qdrant cluster: its making, and whose vectors it holds."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..archive.content import DIMENSION
from ..archive.errors import ModelMismatch, StorageUnavailable, StoreError
from . import filters
from .nodes import Nodes, unavailable
from .replicated import write
from .rest import Refused

logger = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_LOOK_AGAIN_S = 0.05
# What contents are chosen or ordered by, made before the first point comes.
_PAYLOAD_INDEXES: dict[str, Any] = {
    "type": {"type": "keyword", "is_tenant": True},  # contents of one type lie together
    "user": "keyword",
    "sha256": "keyword",
    "created": "float",
    "sample": "integer",
    **filters.INDEXES,
}


class QdrantCollection:
    """The one collection: a point for each content, its type and all else in the payload.

    One vector, and a filter on the type: two named vectors would take twice the memory, since Qdrant keeps room for the
    one a point does not have. Measured with 24,000 contents: 80 MB against 47, for a recall@10 from text to image of
    0.95 instead of 0.93 at hnsw_ef 128; at 256 one vector reaches 0.98. Two collections could not change the type of a
    content in one step.

    The collection is made by the first write, with that content's model in its metadata. Making it is a decision of
    the whole cluster, so that of two sidecars with different models only one succeeds. What was learnt of the model
    then holds as long as the collection; nothing else is remembered here.
    """

    def __init__(self, nodes: Nodes, name: str, shards: int, replication: int) -> None:
        self._nodes = nodes
        self._path = f"/collections/{name}"
        self._shards = shards
        self._replication = replication
        self._fingerprint: str | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self._nodes.close()

    async def check(self) -> None:
        """Raises StoreError when the collection can never be used as it is, StorageUnavailable when not now."""
        try:
            self._fingerprint = await self._read_model()
        except Refused as error:
            raise StoreError(f"Qdrant refuses to work for us ({error}): is QDRANT_API_KEY_FILE right?") from error

    async def answers(self) -> None:
        """Raises StorageUnavailable unless some node can read the collection, or says that there is none yet."""
        try:
            if self._fingerprint is None:
                await self._nodes.check("GET", self._path)
            else:
                await self._nodes.check("POST", self._path + "/points/count", {"exact": False})
        except Refused as error:
            if error.status != 404:
                raise _wrong(error) from error

    async def fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while nothing was ever stored. Raises StorageUnavailable."""
        if self._fingerprint is None:
            try:
                self._fingerprint = await self._read_model()
            except (Refused, StoreError) as error:
                raise _wrong(error) from error
        return self._fingerprint

    async def check_model(self, fingerprint: str) -> None:
        """Raises ModelMismatch unless vectors of this model may be compared with the stored ones."""
        stored = await self.fingerprint()
        if stored not in (None, fingerprint):
            raise ModelMismatch(stored or "", fingerprint)

    async def read(self, path: str, body: dict[str, Any]) -> Any:
        """The result of a POST that changes nothing; None while nothing was ever stored. Raises StorageUnavailable."""
        if await self.fingerprint() is None:
            return None
        return await self._call("POST", path, body)

    async def write(
        self,
        method: str,
        path: str,
        body: dict[str, Any],
        fingerprint: str | None = None,
    ) -> None:
        """Change points, as writes.py promises.

        `fingerprint` is the model of the vectors in `body`, if any. Raises ModelMismatch, StorageUnavailable.
        """
        if fingerprint is not None:
            await self.check_model(fingerprint)
            if self._fingerprint is None:
                await self._create(fingerprint)
        try:
            await write(self._nodes, method, self._path + path, body)
        except Refused as error:
            raise _wrong(error) from error

    async def _call(self, method: str, path: str, body: Any, **query: str) -> Any:
        try:
            return await self._nodes.call(method, self._path + path, body, **query)
        except Refused as error:
            raise _wrong(error) from error

    async def _read_model(self) -> str | None:
        collection = await self._find()
        if collection is None:
            return None
        metadata = collection["config"].get("metadata") or {}
        if metadata.get("schema") != _SCHEMA_VERSION or not isinstance(metadata.get("model"), str):
            name = self._path.rpartition("/")[2]
            raise StoreError(
                f"the collection {name} was not made by this program, or by another version of it: metadata {metadata}."
                " Name another one at the end of INDEX_URL"
            )
        for field in _PAYLOAD_INDEXES.keys() - collection["payload_schema"].keys():
            # Its maker may have died before it was done.
            await self._index_payload(field)
        return str(metadata["model"])

    async def _find(self) -> Any:
        """What Qdrant tells of the collection; None when no node has it: one that has just joined may not know it."""
        for _ in range(len(self._nodes)):
            try:
                return await self._nodes.call("GET", self._path)
            except Refused as error:
                if error.status != 404:
                    raise
                self._nodes.skip()
        return None

    async def _create(self, fingerprint: str) -> None:
        body = {
            # The vectors are unit vectors already, and come back bit by bit as they were put.
            "vectors": {"size": DIMENSION, "distance": "Dot"},
            "shard_number": self._shards,
            "replication_factor": self._replication,
            "write_consistency_factor": 1,
            "on_disk_payload": True,
            # What is deleted must not lie about: Qdrant forgets it when it rewrites the segment, which it does at 5 %
            # instead of 20 and from 100 contents instead of 1000, and when the log is full, at 4 MB instead of 32.
            "optimizers_config": {"deleted_threshold": 0.05, "vacuum_min_vector_number": 100},
            "wal_config": {"wal_capacity_mb": 4},
            "metadata": {"schema": _SCHEMA_VERSION, "model": fingerprint},
        }
        try:
            async with asyncio.timeout(self._nodes.timeout_s):
                await self._make(body)
                while self._fingerprint is None:  # a node learns of it when it has heard of the cluster's decision
                    await self.check_model(fingerprint)
                    await asyncio.sleep(0 if self._fingerprint else _LOOK_AGAIN_S)
        except TimeoutError as error:
            logger.error("Qdrant made the collection, and no node has it")
            raise unavailable() from error

    async def _make(self, body: dict[str, Any]) -> None:
        try:
            await self._nodes.call("PUT", self._path, body)
            for field in _PAYLOAD_INDEXES:
                await self._index_payload(field)
        except Refused as error:
            if error.status != 409:
                raise _wrong(error) from error
            # Another caller was faster, or our own first try was heard after all.

    async def _index_payload(self, field: str) -> None:
        body = {"field_name": field, "field_schema": _PAYLOAD_INDEXES[field]}
        await self._nodes.call("PUT", f"{self._path}/index", body, wait="true")


def _wrong(error: Exception) -> StorageUnavailable:
    logger.error("Qdrant: %s", error)
    return unavailable()


def matches(field: str, value: str) -> dict[str, Any]:
    """The condition of a filter that the payload's field has this value."""
    return {"key": field, "match": {"value": value}}
