"""The nodes of a cluster: any of them does any call, and one that is gone costs a call two seconds at most.

A node can be gone in three ways. It refuses (its process died): the next one is asked at once. Its address hangs
(power, a stopped container): connecting has a limit of its own. It takes the call and never answers: after a moment it
is asked for a sign of life, which a living node gives at once. A living node is waited for until the deadline, since
its slowness is somebody else's (writes.py), and no other node would be faster.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..archive.errors import StorageUnavailable
from .rest import NodeFails, NotDone, Refused, Rest

logger = logging.getLogger(__name__)

PATIENCE_S = 0.75  # with a call, before the node is asked for a sign of life
_TRIAL_S = 2.0  # a node that failed is one caller's for so long
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_LOOK_AGAIN_S = 0.05
_RETRY_AFTER_S = 2  # another node takes over within seconds
_STILL_WORKS_S = 5.0  # after its last success a cluster whose calls hang is taken to be changing over


@dataclass(slots=True)
class _Node:
    url: str
    failures: int = 0  # since its last success
    left_until: float = 0.0
    answered: float = 0.0  # when it last did

    def fails(self) -> None:
        self.left_until = time.monotonic() + min(_FIRST_PAUSE_S * 2**self.failures, _LONGEST_PAUSE_S)
        self.failures = min(self.failures + 1, 10)

    def works(self) -> None:
        self.failures, self.left_until, self.answered = 0, 0.0, time.monotonic()


class Nodes:
    """Calls go to one node until it fails, then to the next.

    A failing one is left alone, each time for longer, and then tried by one call, while others go elsewhere or wait.
    """

    def __init__(
        self, nodes: tuple[str, ...], key_file: Path | None, timeout_s: float, first: int | None = None
    ) -> None:
        self._nodes = [_Node(url) for url in nodes]
        # Sidecars spread over the nodes, unless `first` says otherwise.
        self._current = random.randrange(len(nodes)) if first is None else first  # noqa: S311
        self._rest = Rest(key_file)
        self._succeeded = -_STILL_WORKS_S  # when the last call did, at any node
        self.timeout_s = timeout_s

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()

    def __len__(self) -> int:
        return len(self._nodes)

    def skip(self) -> None:
        """Let another node do the next call."""
        self._current = (self._current + 1) % len(self._nodes)

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The `result` of a call that may be done twice. Raises Refused, or StorageUnavailable within the timeout."""
        data = json.dumps(body).encode() if body is not None else None
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._until_done(method, path, data, query)
        except TimeoutError as error:
            logger.error("no node of Qdrant did %s %s within %g s", method, path, self.timeout_s)
            raise unavailable() from error

    async def check(self, method: str, path: str, body: Any = None, within_s: float = 1.0) -> None:
        """See that some node does a call that costs little, all being asked at once.

        Where a node vanished, the living ones may wait for it in this very call while they do others: a call that hangs
        tells nothing while another succeeded a moment ago. Raises Refused when that is the answer of the first that has
        one, StorageUnavailable when all fail, or hang longer.
        """
        data = json.dumps(body).encode() if body is not None else None
        asked = [asyncio.create_task(self._ask_until_done(node, method, path, data)) for node in self._nodes]
        try:
            async with asyncio.timeout(within_s):
                for answer in asyncio.as_completed(asked):
                    try:
                        await answer
                        return
                    except NodeFails as error:
                        logger.debug("not from this node: %s", error)
        except TimeoutError:
            if time.monotonic() - self._succeeded < _STILL_WORKS_S:
                return
        finally:
            drop(*asked)
        raise unavailable()

    async def one_is_gone(self) -> bool:
        """Whether some node neither answered a moment ago nor gives a sign of life."""
        return not all(await asyncio.gather(*(self._is_alive(node) for node in self._nodes)))

    async def _ask_until_done(self, node: _Node, method: str, path: str, data: bytes | None) -> Any:
        """Of one node: what it did not do it may have asked of one that is gone."""
        while True:
            try:
                return await self._ask(node, method, path, data, {})
            except NotDone as error:
                logger.debug("not yet from this node: %s", error)
                await asyncio.sleep(_FIRST_PAUSE_S)

    async def _until_done(self, method: str, path: str, data: bytes | None, query: dict[str, str]) -> Any:
        pause, tries = _FIRST_PAUSE_S, 0
        while True:
            node = await self._choose()
            try:
                return await self._ask_while_alive(node, method, path, data, query)
            except NodeFails as error:
                if node.failures == 0:
                    logger.warning("Qdrant at %s fails: %s", node.url, error)
                node.fails()
                self._leave(node)
            except asyncio.CancelledError:
                node.left_until = 0.0  # whoever comes next may try it
                raise
            except NotDone as error:
                logger.info("Qdrant at %s did not do %s %s: %s", node.url, method, path, error)
                # It has learnt of another node's death by it, perhaps, so it is asked once more before the next one.
                tries += 1
                if tries % 2 == 0:
                    self._leave(node)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _choose(self) -> _Node:
        """The next node that is not left alone; one that failed and whose pause is over goes to one caller only."""
        while True:
            now = time.monotonic()
            for place in range(len(self._nodes)):
                number = (self._current + place) % len(self._nodes)
                node = self._nodes[number]
                if node.left_until <= now:
                    self._current = number
                    if node.failures:
                        node.left_until = now + _TRIAL_S
                    return node
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _leave(self, node: _Node) -> None:
        if self._nodes[self._current] is node:  # the first of the calls that were under way
            self.skip()

    async def _ask_while_alive(
        self, node: _Node, method: str, path: str, data: bytes | None, query: dict[str, str]
    ) -> Any:
        asking = asyncio.create_task(self._ask(node, method, path, data, query))
        try:
            while not (await asyncio.wait({asking}, timeout=PATIENCE_S))[0]:
                if not await self._is_alive(node) and not asking.done():
                    raise NodeFails("does not answer")
            return asking.result()
        finally:
            drop(asking)

    async def _is_alive(self, node: _Node) -> bool:
        """Whether it answered anybody a short while ago, or does now."""
        asked = time.monotonic()
        if asked - node.answered > PATIENCE_S and await self._rest.gives_sign_of_life(node.url):
            node.answered = time.monotonic()
        return node.answered >= asked - PATIENCE_S

    async def _ask(self, node: _Node, method: str, path: str, data: bytes | None, query: dict[str, str]) -> Any:
        try:
            result = await self._rest.ask(node.url, method, path, data, query)
        except (Refused, NotDone):
            node.works()
            raise
        node.works()
        self._succeeded = node.answered
        return result


def drop(*tasks: asyncio.Task[Any]) -> None:
    """Let them go, whatever becomes of them."""
    for task in tasks:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()


def unavailable() -> StorageUnavailable:
    """What callers are told: the reason is the operator's business, they can only come back later."""
    error = StorageUnavailable("the archive's storage does not answer at the moment; try again later")
    error.retry_after_s = _RETRY_AFTER_S
    return error
