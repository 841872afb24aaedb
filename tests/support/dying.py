"""A store of originals that dies: python -m tests.support.dying FOLDER makes FOLDER/0, FOLDER/1 and so on.

In the n-th the process ended, as by SIGKILL, just before the n-th call by which files are opened, made, synced and
unlinked, transactions begun and committed, and logs emptied. Each is a fork of one process. What was acknowledged is in
FOLDER/n/acknowledged, a line each.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from index_sidecar.sqlite.store import SqliteStore

from .contents import content_of

PICTURES = {name: (b"picture %s " % name.encode()) * 4000 for name in ("one", "two", "three")}
TEXT = b"a text that is kept, " * 30
STEPS: tuple[tuple[str, str | None], ...] = (
    ("a", "one"), ("b", "one"), ("c", "two"), ("t", ""), ("a", None), ("b", None), ("c", "three"), ("b", "one"),
    ("t", None), ("c", None),
)  # fmt: skip
"""An id, and the picture it gets; a text for ""; None: it is deleted."""
_CALLS = ("open", "mkdir", "fsync", "unlink")
_STATEMENTS = ("BEGIN", "COMMIT", "PRAGMA wal_checkpoint")


def bytes_of(name: str) -> bytes:
    return PICTURES[name] if name else TEXT


async def _live(folder: Path, count: Callable[[], None]) -> None:
    store = SqliteStore(folder / "data" / "contents.sqlite")
    for connection in (store.database.write_connection, store.database.overwriter.connection):
        connection.set_trace_callback(lambda statement: count() if statement.startswith(_STATEMENTS) else None)
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for content_id, name in STEPS:
        if name is None:
            written = await store.delete(content_id)
        else:
            content = content_of(content_id, bytes_of(name), "image" if name else "text")
            written = await store.put(content, None, bytes_of(name))
        os.write(acknowledged, f"{content_id}\n".encode())
        await written.is_overwritten(30)
    await store.close()


def die_before(number: int, names: Sequence[str] = _CALLS) -> Callable[[], None]:
    """What is called before each of the calls, as are those of os from now on."""
    calls = itertools.count()

    def count() -> None:
        if next(calls) == number:
            os._exit(9)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            count()
            return call(*args, **options)

        return called

    for name in names:
        setattr(os, name, counted(getattr(os, name)))
    return count


def main(folder: Path) -> None:
    for number in itertools.count():
        here = folder / str(number)
        here.mkdir(parents=True)
        child = os.fork()
        if not child:
            asyncio.run(_live(here, die_before(number)))
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
