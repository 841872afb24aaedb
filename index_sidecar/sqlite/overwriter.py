"""Makes deletions erasures: a thread that empties the write-ahead log into the file after what was taken away.

A deleted row is in three places: the page it is on, which gets zeros in its place; the copies of that page in the log;
and the page in the file itself, which the zeros reach with the next checkpoint only. So an erasure is done with a
checkpoint that begins after its commit, reaches the end of the log and truncates it. No checkpoint gets past what a
program of somebody else still reads: while one does, the thread tries again and again, and nobody has to wait for it.

Files of originals that a commit left nameless (files.py) are erased before the checkpoint, and a start that finds any
goes through all of them.

Most of a checkpoint is copied and synced beside reads and writes (PASSIVE). Only its end, which must find nobody in the
log, keeps them out (TRUNCATE), and it never waits for a foreign reader while it does.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from . import originals
from .files import OriginalFiles

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_PAGES_AT_THE_END = 1000  # 16 MB, which nobody may write meanwhile
_MOST_ROUNDS = 8
_CLOSE_S = 5.0  # for files at the end: the next start goes on
# In pages. While an erasure waits, no commit copies the log, which may have grown long: this thread does.
_CHECKPOINT_AFTER = 1000


@dataclass(frozen=True)
class _Due:
    erasures: int
    done: Future[None]
    files: Sequence[bytes] | None = ()  # by their SHA-256; None: all that are nameless


class Overwriter:
    """Erasures that are committed -> erasures of which no file holds anything."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        write_connection: sqlite3.Connection,
        writing: threading.Lock,
        reading: Sequence[threading.Lock],
        files: OriginalFiles,
    ) -> None:
        """The locks keep our own writes and reads out of the log for the end of a checkpoint."""
        self.connection = connection
        self._files = files
        self._write_connection = write_connection
        self._writing = writing
        self._reading = reading
        self._changed = threading.Condition()
        self._due: list[_Due] = []
        self._waiting_since: float | None = None
        self._closing = False
        self._close_by = float("inf")
        self._lost = 0
        if files.exist() or connection.execute(originals.ANY_FILE).fetchall():
            self._due.append(_Due(1, Future(), None))
        if not self._checkpoint():  # what a crash cut off is one more erasure: how many it were nobody knows
            self.add(1)
        self._thread = threading.Thread(target=self._run, name="store-overwriter", daemon=True)
        self._thread.start()

    def add(self, erasures: int, files: Sequence[bytes] = ()) -> Future[None]:
        """Done when what the commit before took away is in no file; cancelled when the program ends before that.

        `files` are those of originals that may be nameless now, by their SHA-256.
        """
        due = _Due(erasures, Future(), files)
        with self._changed:
            self._due.append(due)
            self._changed.notify()
        return due.done

    def due(self) -> int:
        """How many erasures are committed and not done."""
        with self._changed:
            return sum(each.erasures for each in self._due)

    def close(self) -> None:
        """Try once more, and end."""
        with self._changed:
            self._closing = True
            self._close_by = time.monotonic() + _CLOSE_S
            self._changed.notify()
        self._thread.join()
        self.connection.close()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._closing)
                covered, closing = list(self._due), self._closing
            if not covered:
                return
            if self._settle_files(covered) and self._checkpoint():
                self._finish(covered)
                pause = _FIRST_PAUSE_S
            elif closing:
                logger.warning("%d erasures are still not overwritten: the next start goes on", self.due())
                for each in covered:
                    each.done.cancel()
                return
            else:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _finish(self, covered: list[_Due]) -> None:
        if self._waiting_since is not None:
            seconds = time.monotonic() - self._waiting_since
            logger.info("%d erasures are overwritten after %.1f s", sum(each.erasures for each in covered), seconds)
            self._waiting_since = None
            self._let_commits_checkpoint(_CHECKPOINT_AFTER)
        with self._changed:
            del self._due[: len(covered)]
        for each in covered:
            if each.done.set_running_or_notify_cancel():
                each.done.set_result(None)

    def _settle_files(self, covered: list[_Due]) -> bool:
        """Whether no file that these name is nameless any more."""
        try:
            settled = True
            for each in covered:
                settled &= self._settle(each.files)
            return settled
        except Exception as error:  # as of a checkpoint
            self._wait_on(error)
            return False

    def _settle(self, files: Sequence[bytes] | None) -> bool:
        if files is not None:
            return self._settle_some(files)
        settled = True
        for shard in range(256):
            there, first = self._files.names(shard), bytes([shard])
            bounds = first + bytes(31), first + b"\xff" * 31
            named = {sha256 for (sha256,) in self.connection.execute(originals.FILES, bounds).fetchall()}
            settled &= self._settle_some(sorted(there ^ named))
        if self._lost:
            logger.warning(
                "%d originals of pictures are not in their folder: their contents lack them, until the same bytes are"
                " posted again",
                self._lost,
            )
            self._lost = 0
        return settled

    def _settle_some(self, files: Sequence[bytes]) -> bool:
        settled = True
        for sha256 in files:
            if time.monotonic() > self._close_by:
                return False
            settled &= self._files.settle(sha256, self._is_named, self._lose)
        return settled

    def _is_named(self, sha256: bytes) -> bool:
        return bool(self.connection.execute(originals.FILE, (sha256,)).fetchall())

    def _lose(self, sha256: bytes) -> None:
        with self._writing:
            originals.lose(self._write_connection, sha256)
        self._lost += 1

    def _checkpoint(self) -> bool:
        """Whether every page of the log is in the file now, and the log empty."""
        try:
            self.connection.execute("PRAGMA busy_timeout = 0")
            busy = 0 if self._copy_beside() else 1
            if not busy:
                with contextlib.ExitStack() as alone:
                    for lock in (*self._reading, self._writing):
                        alone.enter_context(lock)
                    ((busy, _, _),) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            reason: object = "another program reads the store's file"
        except Exception as error:  # a full disk, a file that cannot be written any more: nothing may end this thread
            busy, reason = 1, error
        if busy:
            self._wait_on(reason)
        return not busy

    def _wait_on(self, reason: object) -> None:
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
            self._let_commits_checkpoint(0)
            logger.warning(
                "what was erased is in no answer any more, but cannot be overwritten yet (%s); it is tried again and"
                " again",
                reason,
            )

    def _copy_beside(self) -> bool:
        """Copy the log beside reads and writes, until little is left that came meanwhile. False if somebody reads it.

        After a long reader the log may be gigabytes: what comes while they are copied must not be left to the end.
        """
        before = 0
        for _ in range(_MOST_ROUNDS):
            ((_, pages, copied),) = self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if copied - before <= _PAGES_AT_THE_END:
                return bool(pages - copied <= _PAGES_AT_THE_END)
            before = copied
        return True

    def _let_commits_checkpoint(self, pages: int) -> None:
        with self._writing:
            self._write_connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
