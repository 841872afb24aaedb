"""The contents' collection on a Qdrant cluster: the way to its nodes, its making, and whose vectors it holds.

This speaks REST through the aiohttp that is here anyway. Qdrant's own client brings 15 packages (44 MB) and a second
of start, and knows one address: going on to the next node would be ours to write all the same.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import random
import socket
import time
from pathlib import Path
from typing import Any

import aiohttp

from ..archive.content import DIMENSION
from ..archive.errors import ModelMismatch, StorageUnavailable, StoreError

logger = logging.getLogger(__name__)

_CONNECT_S = 1.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_SCHEMA_VERSION = 1
_RETRY_AFTER_S = 2  # another node takes over within seconds
# What contents are chosen or ordered by, made before the first point comes.
_PAYLOAD_INDEXES: dict[str, Any] = {
    "type": {"type": "keyword", "is_tenant": True},  # contents of one type lie together
    "user": "keyword",
    "sha256": "keyword",
    "created": "float",
    "sample": "integer",
}


class _Failed(Exception):
    """This node did not do it; the next one, or this one later, may."""


class _Refused(Exception):
    """Every node would answer this: the request is wrong, or not allowed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Nodes:
    """The nodes of one cluster, any of which does any call. Calls go to one node until it fails, then to the next."""

    def __init__(self, nodes: tuple[str, ...], key_file: Path | None, timeout_s: float) -> None:
        self._nodes = nodes
        self._current = random.randrange(len(nodes))  # noqa: S311  (sidecars spread over the nodes)
        self._failing: set[int] = set()  # since their last success: told once
        self._key_file = key_file
        self._key: str | None = None
        self._timeout_s = timeout_s
        # A node that takes a call and never answers must leave time for the others.
        self._attempt_s = timeout_s / min(len(nodes) + 1, 3)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=128),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def __len__(self) -> int:
        return len(self._nodes)

    def skip(self) -> None:
        """Let another node do the next call."""
        self._current = (self._current + 1) % len(self._nodes)

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The `result` of a call that may be done twice. Raises _Refused, or StorageUnavailable within the timeout."""
        deadline = time.monotonic() + self._timeout_s
        data = json.dumps(body).encode() if body is not None else None
        pause, failures = _FIRST_PAUSE_S, 0
        while True:
            current = self._current
            remaining = deadline - time.monotonic()
            try:
                async with asyncio.timeout(min(self._attempt_s, remaining)):
                    result = await self._ask(self._nodes[current], method, path, data, query)
                self._failing.discard(current)
                return result
            except (aiohttp.ClientError, TimeoutError, _Failed) as error:
                self._leave(current, error)
                failures += 1
                if time.monotonic() + pause >= deadline:
                    logger.error("no node of Qdrant did %s %s within %g s", method, path, self._timeout_s)
                    raise _unavailable() from error
            if failures % len(self._nodes) == 0:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _leave(self, failed: int, error: Exception) -> None:
        if self._current == failed:  # the first of the calls that were under way
            self.skip()
        if failed not in self._failing:
            self._failing.add(failed)
            logger.warning("Qdrant at %s fails: %s", self._nodes[failed], str(error) or type(error).__name__)

    async def _ask(self, node: str, method: str, path: str, data: bytes | None, query: dict[str, str]) -> Any:
        if self._key is None:
            self._key = self._read_key()
        key = self._key
        headers = {"content-type": "application/json"} | ({"api-key": key} if key else {})
        body = io.BytesIO(data) if data is not None else None
        async with self._session.request(method, node + path, data=body, params=query, headers=headers) as response:
            _acknowledge(response)
            if response.status == 200:
                return (await response.json())["result"]
            text = (await response.text(errors="replace"))[:500]
        if response.status in (401, 403):
            self._key = self._read_key()  # it may have been renewed
            if self._key != key:
                raise _Failed("the API key was renewed")
        elif response.status == 429 or response.status >= 500 or (response.status == 404 and method != "GET"):
            raise _Failed(f"{response.status}: {text}")
        raise _Refused(response.status, text)

    def _read_key(self) -> str:
        if self._key_file is None:
            return ""
        try:
            return self._key_file.read_text().strip()
        except (OSError, ValueError) as error:
            raise _Failed(f"QDRANT_API_KEY_FILE={self._key_file} cannot be read: {type(error).__name__}") from error


def _acknowledge(response: aiohttp.ClientResponse) -> None:
    """Tell the node at once that the head of its answer is here.

    It sends larger answers in two parts, the second when the first is acknowledged (Nagle's algorithm), and Linux
    would acknowledge after 40 ms.
    """
    if response.connection is not None and response.connection.transport is not None:
        connection = response.connection.transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY), 1)


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
        except _Refused as error:
            raise StoreError(f"Qdrant refuses to work for us ({error}): is QDRANT_API_KEY_FILE right?") from error

    async def fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while nothing was ever stored. Raises StorageUnavailable."""
        if self._fingerprint is None:
            try:
                self._fingerprint = await self._read_model()
            except (_Refused, StoreError) as error:
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

    async def write(self, method: str, path: str, body: dict[str, Any], fingerprint: str | None = None) -> None:
        """Change points, in the same order on all replicas; done on every one that lives when it returns.

        `fingerprint` is the model of the vectors in `body`, if any. Raises ModelMismatch, StorageUnavailable.
        """
        if fingerprint is not None:
            await self.check_model(fingerprint)
            if self._fingerprint is None:
                await self._create(fingerprint)
        await self._call(method, path, body, wait="true", ordering="medium")

    async def _call(self, method: str, path: str, body: Any, **query: str) -> Any:
        try:
            return await self._nodes.call(method, self._path + path, body, **query)
        except _Refused as error:
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
            except _Refused as error:
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
            await self._nodes.call("PUT", self._path, body)
            for field in _PAYLOAD_INDEXES:
                await self._index_payload(field)
        except _Refused as error:
            if error.status != 409:
                raise _wrong(error) from error
            # Another sidecar was faster, or our own first try was heard after all.
        await self.check_model(fingerprint)
        if self._fingerprint is None:
            raise _unavailable()  # made and taken away again

    async def _index_payload(self, field: str) -> None:
        body = {"field_name": field, "field_schema": _PAYLOAD_INDEXES[field]}
        await self._nodes.call("PUT", f"{self._path}/index", body, wait="true")


def _unavailable() -> StorageUnavailable:
    # The reason is the operator's business; the caller can only come back later.
    error = StorageUnavailable("the archive's storage does not answer at the moment; try again later")
    error.retry_after_s = _RETRY_AFTER_S
    return error


def _wrong(error: Exception) -> StorageUnavailable:
    logger.error("Qdrant: %s", error)
    return _unavailable()


def matches(field: str, value: str) -> dict[str, Any]:
    """The condition of a filter that the payload's field has this value."""
    return {"key": field, "match": {"value": value}}
