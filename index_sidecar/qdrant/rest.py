"""One call to one node of Qdrant over REST: what it answers, and what its failing means.

This speaks through the aiohttp that is here anyway. Qdrant's own client brings 15 packages (44 MB) and a second of
start, and knows one address: going on to the next node would be ours to write all the same.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
from pathlib import Path
from typing import Any

import aiohttp

_CONNECT_S = 1.0
_SIGN_OF_LIFE_S = 0.75
_CONNECTIONS = 128  # to each node
_MOST_ANSWER_BYTES = 256 << 20
_THREAD_FROM_BYTES = 1 << 18  # parsing more than that would hold up the event loop


class Refused(Exception):
    """Every node would answer this: the request is wrong, or not allowed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class NodeFails(Exception):
    """This node is gone, or in no state to work."""


class NotDone(Exception):
    """This node works, but the call did not succeed; it may through another one, or later."""


class Rest:
    """The connections to all nodes, and the API key, read again from its file when a node refuses it."""

    def __init__(self, key_file: Path | None) -> None:
        self._key_file = key_file
        self._key: str | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def ask(self, node: str, method: str, path: str, data: bytes | None, query: dict[str, str]) -> Any:
        """The `result` of a call that may be done twice; waits for it without limit.

        Raises Refused, NodeFails, NotDone: no message of these holds a key, or anything of a content.
        """
        try:
            try:
                return await self._ask(node, method, path, data, query)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise
                # The connection was kept, and closed by the other side meanwhile: that tells nothing of the node.
                return await self._ask(node, method, path, data, query)
        except aiohttp.ClientConnectorError as error:
            raise NodeFails(f"{type(error).__name__}: {error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NodeFails(type(error).__name__) from error

    async def gives_sign_of_life(self, node: str) -> bool:
        """Whether the node answers at once; by a new connection, since all that are there may lead nowhere."""
        limit = aiohttp.ClientTimeout(total=_SIGN_OF_LIFE_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(f"{node}/livez") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _ask(self, node: str, method: str, path: str, data: bytes | None, query: dict[str, str]) -> Any:
        if self._key is None:
            self._key = self._read_key()
        key = self._key
        headers = {"content-type": "application/json"} | ({"api-key": key} if key else {})
        body = io.BytesIO(data) if data is not None else None
        async with self._session.request(method, node + path, data=body, params=query, headers=headers) as response:
            _acknowledge(response)
            answer = await _read(response)
        status = response.status
        if status == 200:
            return await _result(answer)
        if status in (401, 403):
            self._key = self._read_key()  # it may have been renewed
            if self._key != key:
                raise NotDone("the API key was renewed")
        elif status in (429, 502, 503, 504):
            raise NodeFails(f"{status}: {_reason(answer)}")
        elif status in (408, 500) or (status == 404 and method != "GET"):
            # It needed another node that is gone, perhaps; or it has just joined and does not know the collection yet.
            raise NotDone(f"{status}: {_reason(answer)}")
        raise Refused(status, _reason(answer))

    def _read_key(self) -> str:
        if self._key_file is None:
            return ""
        try:
            key = self._key_file.read_text().strip()
        except (OSError, ValueError) as error:
            raise NodeFails(f"QDRANT_API_KEY_FILE={self._key_file} cannot be read: {type(error).__name__}") from error
        if not (key.isascii() and key.isprintable()):
            raise NodeFails(f"QDRANT_API_KEY_FILE={self._key_file} holds no key: a line of printable ASCII is one")
        return key


async def _read(response: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > _MOST_ANSWER_BYTES:
            raise NodeFails(f"answers with more than {_MOST_ANSWER_BYTES} bytes")
    return b"".join(chunks)


async def _result(answer: bytes) -> Any:
    try:
        parsed = await asyncio.to_thread(json.loads, answer) if len(answer) > _THREAD_FROM_BYTES else json.loads(answer)
        return parsed["result"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise NodeFails("answers with what is not Qdrant's JSON") from error


def _reason(answer: bytes) -> str:
    """What Qdrant says is wrong, in general: after its first words it may quote what was sent, users and ids, too."""
    try:
        text = str(json.loads(answer)["status"]["error"])
    except (ValueError, RecursionError, LookupError, TypeError):
        return "without a reason"
    return text.partition(":")[0][:60]


def _acknowledge(response: aiohttp.ClientResponse) -> None:
    """Tell the node at once that the head of its answer is here.

    It sends larger answers in two parts, the second when the first is acknowledged (Nagle's algorithm), and Linux
    would acknowledge after 40 ms.
    """
    if response.connection is not None and response.connection.transport is not None:
        connection = response.connection.transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY), 1)
