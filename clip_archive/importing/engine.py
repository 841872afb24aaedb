"""One import: what is found, less what the archive has, sent at the pace it can take."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ..answers import AddAnswer
from ..async_archive import AsyncArchive
from ..contents import Exported, Item
from ..errors import ArchiveError, InvalidRequest, NotFound, ServerFault, Unavailable
from ..many import Outgoing, Sending
from .items import Bad, Found, Source
from .journal import Journal
from .pace import Pace
from .plan import Plan, Ready, Result

_BATCH = 32  # contents of one call
_BATCH_BYTES = 8 << 20
_READ_AHEAD = 128
_READ_AHEAD_BYTES = 64 << 20
_LOOKED_AT_ONCE = 64
_TRIES = 8


class Import:
    """One run, from its sources to one archive."""

    def __init__(
        self, archive: AsyncArchive, journal: Journal, plan: Plan, progress: Callable[[int, str], None]
    ) -> None:
        """`progress` is told how many contents are through, and how many were sent as a word."""
        self._archive = archive
        self._journal = journal
        self._plan = plan
        self._progress = progress
        self._pace = Pace(plan.at_once)
        self._ready: asyncio.Queue[Ready | None] = asyncio.Queue(_READ_AHEAD)
        self._again: list[Ready] = []
        self._held_bytes = 0
        self._freed = asyncio.Event()
        self._failing_since: float | None = None
        self._counting = threading.Lock()
        self.result = Result()

    async def run(self, sources: Sequence[tuple[str, Source]]) -> Result:
        """Import all, or until the archive takes nothing any more. Raises ImportFailure, ArchiveError."""
        senders = max(2, -(-self._plan.at_once // _BATCH))
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read_all(sources))
                sending = [tasks.create_task(self._send_all()) for _ in range(senders)]
                await asyncio.wait(sending)
                if self.result.stopped is not None:
                    reading.cancel()  # nobody takes what it reads
        except ExceptionGroup as group:  # what one found wrong ends all
            raise group.exceptions[0] from None
        self._journal.commit()
        return self.result

    async def _read_all(self, sources: Sequence[tuple[str, Source]]) -> None:
        for root, source in sources:
            each = iter(source)
            while self.result.stopped is None:
                some = await asyncio.to_thread(self._look_at, each, root)
                if some is None:
                    break
                for ready in some:
                    while self._held_bytes > _READ_AHEAD_BYTES:
                        self._freed.clear()
                        await self._freed.wait()
                    self._held_bytes += len(ready.data)
                    await self._ready.put(ready)
            self.result.became["ignored"] += source.tally.pop("ignored", 0)
            self.result.became += source.tally
        await self._ready.put(None)

    def _look_at(self, found: Iterator[Found | Bad], root: str) -> list[Ready] | None:
        """In a thread: some of what is found that has to be sent, read; None at the end."""
        some: list[Ready] = []
        size = 0
        for _ in range(_LOOKED_AT_ONCE):
            each = next(found, None)
            if each is None:
                return some or None
            self.result.found += 1
            if isinstance(each, Bad):
                self._journal.put_bad(each, root)
                self._through("failed")
            elif (ready := self._read(each, root)) is not None:
                some.append(ready)
                size += len(ready.data)
                if size > _BATCH_BYTES:
                    break
        return some

    def _read(self, found: Found, root: str) -> Ready | None:
        """The content with its bytes; None where it is not to be sent, which is counted."""
        known = self._journal.get(found.id)
        if known is not None and known.run == self._journal.run:
            if known.place != found.place:  # a file that a table has named comes again by itself
                why = f"its id {found.id!r} is that of {known.place} as well: tell them apart by --prefix"
                self._journal.put_bad(Bad(found.place, why, found.letter), root)
                self._through("failed")
            else:
                self.result.found -= 1
            return None
        if known is not None and known.status == "permanent" and known.is_of(found) and not self._plan.retry_failed:
            self._journal.seen(found, root)
            self._through("failed before")
            return None
        same = known is not None and known.status == "done" and not self._plan.send_all
        if known is not None and same and known.is_of(found):
            self._journal.seen(found, root)
            self._through("skipped")
            return None
        try:
            data = found.read()
        except OSError as error:
            if not self._plan.dry_run:
                self._journal.put(found, root, None, "permanent", f"it cannot be read: {error}")
            self._through("failed")
            return None
        sha256 = hashlib.sha256(data).digest()
        if known is not None and same and (known.sha256, known.said) == (sha256, found.said):
            self._journal.seen(found, root)
            self._through("skipped")
            return None
        if self._plan.dry_run:
            self._journal.put(found, root, None, "seen")
            self._through("replaced" if known and known.status == "done" else "added")
            return None
        self._journal.put(found, root, None, "seen")
        if self._plan.change is not None and found.type == "image":
            data = self._plan.change(found, data)
        return Ready(found, root, data, sha256)

    def _through(self, word: str) -> None:
        with self._counting:
            self.result.became[word] += 1
        self._progress(1, word)

    async def _send_all(self) -> None:
        while self.result.stopped is None:
            batch = await self._batch()
            if not batch:
                return
            granted = 0
            while granted < len(batch) and self.result.stopped is None:
                count = await self._pace.room(len(batch) - granted)
                await self._send(batch[granted : granted + count])
                granted += count

    async def _batch(self) -> list[Ready]:
        """What goes in one call; nothing when all is done."""
        batch: list[Ready] = []
        size = 0
        while len(batch) < _BATCH and size < _BATCH_BYTES:
            if self._again:
                ready: Ready | None = self._again.pop()
            elif batch and self._ready.empty():
                break
            else:
                ready = await self._ready.get()
            if ready is None:
                await self._ready.put(None)  # for the others
                if batch or not self._again:
                    break
                continue
            batch.append(ready)
            size += len(ready.data)
        return batch

    async def _send(self, batch: list[Ready]) -> None:
        sending = Sending([_outgoing(each) for each in batch])
        try:
            await self._archive.send_many(sending)
        except ArchiveError as error:
            if not _passes(error) and not isinstance(error, InvalidRequest):
                self.result.stopped = error  # a key, a version, another server: nothing else goes either
            sending.give_up(error)
        added = 0
        for place, ready in enumerate(batch):
            outcome = sending.outcome(place)
            if isinstance(outcome, AddAnswer):
                added += 1
                self._journal.put(ready.found, ready.root, ready.sha256, "done")
                self._let_go(ready, outcome.status)
            else:
                assert outcome is not None
                self._failed(ready, outcome)
        if added:
            self._failing_since = None
        await self._pace.done(len(batch), added)

    def _failed(self, ready: Ready, error: ArchiveError) -> None:
        if self.result.stopped is None and _passes(error):
            self._pace.slower(error.retry_after_s)
            now = time.monotonic()
            if self._failing_since is None:
                ready.tries += 1  # others are taken: it may be this one's fault
                self._failing_since = now
            if now - self._failing_since > self._plan.patience_s:
                self.result.stopped = error
            elif ready.tries < _TRIES:
                self._again.append(ready)
                return
        lasting = not _passes(error) and self.result.stopped is None
        self._journal.put(ready.found, ready.root, None, "permanent" if lasting else "transient", str(error))
        self._let_go(ready, "failed")

    def _let_go(self, ready: Ready, word: str) -> None:
        self._held_bytes -= len(ready.data)
        self._freed.set()
        self._through(word)

    async def mirror(self, root: str) -> int:
        """Erase from the archive what earlier runs brought from `root`, and this one has not found: how many."""
        count = 0
        for content_id in list(self._journal.gone(root)):
            if not self._plan.dry_run:
                try:
                    await self._archive.delete_content(content_id)
                    count += 1
                except NotFound:
                    pass
                self._journal.forget(content_id)
            else:
                count += 1
        return count


def _passes(error: ArchiveError) -> bool:
    """Whether time, or the archive's operator, mends it: a full disk is no fault of the content."""
    return error.retryable or isinstance(error, Unavailable | ServerFault)


def _outgoing(ready: Ready) -> Outgoing:
    found = ready.found
    if found.type is None:
        return Outgoing(Exported(ready.data))
    return Outgoing(Item(found.id, ready.data, found.type, found.user, found.metadata))
