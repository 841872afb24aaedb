"""Writes: what changes the store and the index together, whoever leaves or fails in between.

A write first reaches the store, where it survives everything, then the index. From the first step to the last it cannot
be interrupted: it goes on to its end when its caller has left. When the index fails after the store took the write, it
is filled from the store again before anything else is served; so the two never disagree for longer than that.

Calls for the same id take turns, for which nobody waits without limit. An id whose content is what it was put in again
all the same: it makes sure of the index.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from .content import Content, ContentType
from .errors import Forbidden, NotFound, StorageUnavailable
from .metadata import Metadata, write_metadata
from .ports import Store, VectorIndex, Written
from .stages import stage
from .turns import Turns

_T = TypeVar("_T")
_ERASED_A_STEP = 200  # a transaction that other writes wait for: some 10 ms
_TURN_S = 30.0  # who has the turn may wait for the model and then for the disk, each within its own limit


class Writes:
    """Changes store and index in step."""

    def __init__(
        self,
        store: Store,
        index: VectorIndex,
        on_failure: Callable[[], None],
        limit_s: float,
        turn_s: float = _TURN_S,
    ) -> None:
        """`on_failure` is called after a write that the store has taken and the index has not.

        No caller waits longer than `limit_s` for a step, nor longer than `turn_s` for its turn with the ids of one.
        """
        self._limit_s = limit_s
        self._store = store
        self._index = index
        self._on_failure = on_failure
        self._under_way: set[asyncio.Task[Any]] = set()
        self._hanging: set[asyncio.Task[Any]] = set()
        self.turns = Turns(turn_s)

    async def put(self, content: Content, preview: bytes | None, original: bytes | None = None) -> Written:
        """Store a content in place of what its id held. For the caller whose turn the id is."""
        return await self._whole(self._in_time(self._put(content, preview, original)))

    async def make_sure(self, content: Content, original: bytes | None = None) -> None:
        """Have the index hold a content that the store holds, and the store its original, where it lacks that.

        For the caller whose turn the id is.
        """
        await self._whole(self._index_step(self._index.upsert([content])))
        if original is not None:
            await self._whole(self._in_time(self._give(content, original)))

    async def set_metadata(
        self, content_id: str, change: Callable[[Metadata], Metadata], only_user: str | None
    ) -> tuple[Content, Written | None]:
        """The content with its metadata changed, and what was written: None where that was nothing.

        Raises NotFound, Forbidden as `delete`, and what `change` raises.
        """
        return await self._whole(self._set_metadata(content_id, change, only_user))

    async def delete(self, content_id: str, only_user: str | None) -> Written:
        """Erase a content. Raises NotFound, or Forbidden where it is another's than `only_user`."""
        return await self._whole(self._delete(content_id, only_user))

    async def delete_user(self, user: str) -> tuple[int, Written]:
        """Erase all of a user's, a step at a time: how many, and what is left to do for the last of them."""
        return await self._whole(self._delete_user(user))

    async def finish(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _put(self, content: Content, preview: bytes | None, original: bytes | None) -> Written:
        with stage("commit"):
            written = await self._store.put(content, preview, original)
        await self._index_step(self._index.upsert([replace(content, key=written.key)]))
        return written

    async def _give(self, content: Content, original: bytes) -> None:
        with stage("commit"):
            if await self._store.originals.lacks(content.id):
                await self._store.originals.give(content, original)

    async def _set_metadata(
        self, content_id: str, change: Callable[[Metadata], Metadata], only_user: str | None
    ) -> tuple[Content, Written | None]:
        async def step() -> tuple[Content, Written | None]:
            content = await self._store.get(content_id)
            check_owner(content, only_user)
            if content is None:
                raise NotFound("no content has this id")
            changed = replace(content, metadata=change(content.metadata))
            if write_metadata(changed.metadata) == write_metadata(content.metadata):
                return content, None
            with stage("commit"):
                written = await self._store.set_metadata(content_id, changed.metadata)
            if written is None:  # on a cluster another sidecar may have erased it
                raise NotFound("no content has this id")
            return changed, written

        async with self.turns.of(content_id):
            return await self._in_time(step())

    async def _delete(self, content_id: str, only_user: str | None) -> Written:
        async def step() -> Written:
            if only_user is not None:
                check_owner(await self._store.get(content_id), only_user)
            with stage("commit"):
                written = await self._store.delete(content_id)
            if not written.gone:
                raise NotFound("no content has this id")
            await self._index_step(self._index.delete([content_id]))
            return written

        async with self.turns.of(content_id):
            return await self._in_time(step())

    async def _delete_user(self, user: str) -> tuple[int, Written]:
        count, after, written = 0, None, Written([])
        with stage("commit"):  # before anything: a backup may hold what is this user's no more
            await self._in_time(self._store.delete_many([], user))
        while True:
            page = await self._store.page(user, None, _ERASED_A_STEP, after)
            ids = [entry.id for entry in page.contents]
            erased = await self._delete_step(ids, user)
            count += len(erased.gone)
            written = erased if erased.gone else written  # an overwriting covers all that was erased before
            after = page.next
            if after is None:
                return count, written

    async def _delete_step(self, ids: Sequence[str], user: str) -> Written:
        async def step() -> Written:
            with stage("commit"):
                erased = await self._store.delete_many(ids, user)
            await self._index_step(self._index.delete(erased.gone))
            return erased

        if not ids:
            return Written([])
        async with self.turns.of(*ids):
            return await self._in_time(step())

    async def _index_step(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            with stage("index"):
                await step
        except BaseException:
            self._on_failure()
            raise

    async def _in_time(self, step: Coroutine[Any, Any, _T]) -> _T:
        """What a step gives. Raises StorageUnavailable when it hangs: it may still be done, in the store and the index.

        For who has the turn already: waiting for that says nothing of the storage. Whoever writes the same id after
        that comes behind it, for a store takes writes in their order. While one hangs, no other is begun: nothing would
        bound how many wait.
        """
        if self._hanging:
            step.close()
            raise _hangs()
        task = asyncio.create_task(step)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        if not (await asyncio.wait({task}, timeout=self._limit_s))[0]:
            self._hanging.add(task)
            task.add_done_callback(self._hanging.discard)
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise _hangs()
        return task.result()

    async def _whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What `work` gives. A caller that is cancelled stays until it is done, and so keeps the turns it holds."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # nobody is there any more to be told
            raise


def _hangs() -> StorageUnavailable:
    return StorageUnavailable("the archive's storage takes too long to write; what was asked may be done late, or not")


def check_owner(content: Content | None, only_user: str | None) -> None:
    """Raises Forbidden for another's content than `only_user`'s, if there is such a bound."""
    if content is not None and only_user not in (None, content.user):
        raise Forbidden("this content belongs to another user than the one this key is bound to")


def is_same(
    before: Content, sha256: bytes, content_type: ContentType, user: str | None, metadata: Metadata | None
) -> bool:
    """Whether a content is what is added again; metadata that is not given is no other."""
    same_metadata = metadata is None or write_metadata(before.metadata) == write_metadata(metadata)
    return same_metadata and (before.sha256, before.type, before.user) == (sha256, content_type, user)
