"""A write that each living copy has, also while a copy's node has vanished, for which Qdrant holds it.

Qdrant acknowledges a write when each copy has it or is declared dead. Of a node that vanished with its address it takes
7 to 9 s to say so, in which the other writes to that shard wait, too. For as long it asks the vanished one to put the
writes in order, where that one is the leader, and then fails them all. So a write that takes long while a node is gone
is sent once more without an order among writers: Qdrant then does it, and declares the vanished copy dead on the way.

The price: two sidecars that write the same id in the same seconds after a node vanished can leave its copies different.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .nodes import PATIENCE_S, Nodes, drop


async def write(nodes: Nodes, method: str, path: str, body: Any) -> None:
    """Change points; every living copy has it when this returns. Raises Refused, StorageUnavailable.

    All copies have all changes in the same order, as long as all nodes are there.
    """
    ways = {asyncio.create_task(nodes.call(method, path, body, wait="true", ordering="medium"))}
    try:
        while not (await asyncio.wait(ways, timeout=PATIENCE_S))[0]:
            if await nodes.one_is_gone():
                ways.add(asyncio.create_task(nodes.call(method, path, body, wait="true", ordering="weak")))
                break
        pending = ways
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(task.exception() is None for task in done):
                return
        await done.pop()
    finally:
        drop(*ways)
