"""What a start cannot have from the store at once: what a build has learned, and in which list each content is.

One file a type, an npz of NumPy's, in which each part has a CRC-32. There are no vectors in it: reading those from here
is no faster than from the store, and they would have to be erased in two places. A content is known by the first 8
bytes of its SHA-256. Its vector follows from its bytes, its type and the model, and its list from the vector: so what
is said of a content is never out of date, only superfluous, and a chance match of 8 bytes costs a row its place, never
an answer. The store's key would not do: it stays when a content is replaced.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..archive.content import ContentType
from .rows import Lists, Prints
from .shelf import Shelf
from .training import Trained

logger = logging.getLogger(__name__)

_UNSAVED_PART = 0.1  # of the rows, from which a snapshot is written anew
_PAUSE_S = 60.0  # after the disk refused one
_FORM = 2  # from 2 on, nothing that a build has learned is, or nearly is, a single vector


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What training has learned and the list of each print, which ascend."""

    trained: Trained
    prints: Prints
    lists: npt.NDArray[np.int32]

    def lists_of(self, prints: Prints) -> Lists:
        """The list of each of these, -1 where it is not said."""
        if not len(self.prints):
            return np.full(len(prints), -1)
        place = np.minimum(np.searchsorted(self.prints, prints), len(self.prints) - 1)
        return np.where(self.prints[place] == prints, self.lists[place], -1).astype(np.int64)


class Snapshots:
    """The snapshots in a folder: read at a start, written after a build, when a tenth has changed and at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._states: dict[ContentType, Literal["writing", "written"]] = {}
        self._not_before_s = 0.0
        self._one_at_a_time = threading.Lock()
        self.fingerprint: str | None = None  # of the model all vectors are of

    def state(self, content_type: ContentType) -> Literal["none", "writing", "written"]:
        """Whether there is one."""
        return self._states.get(content_type, "none")

    def read(self, content_type: ContentType, recall: float) -> Snapshot:
        """The snapshot, if it is of the model and reached this recall. Raises whatever is wrong with it."""
        with self._path(content_type).open("rb") as file, np.load(file, allow_pickle=False) as parts:
            head = json.loads(parts["head"].tobytes())
            state, prints, lists = parts["state"], parts["prints"], parts["lists"]
        if head.pop("form", 1) != _FORM:
            raise ValueError("it is of an older program")
        if (head.pop("fingerprint"), head.pop("type")) != (self.fingerprint, content_type):
            raise ValueError("it is of another model")
        trained = Trained(state=state, **head)
        if trained.reached < recall:
            raise ValueError(f"it reached a recall of {trained.reached:.3f} only")
        if (prints.dtype, lists.dtype, len(prints)) != (np.uint64, np.int32, len(lists)):
            raise ValueError("its lists are of another form")
        self._states[content_type] = "written"
        return Snapshot(trained, prints, lists)

    def delete(self, content_type: ContentType) -> None:
        """With what a crash, or an older program, left beside it."""
        self._states.pop(content_type, None)
        for path in self._folder.glob(f"index-{content_type}.*"):
            path.unlink(missing_ok=True)

    def due(self, shelf: Shelf, at_the_end: bool = False) -> bool:
        """Whether a restart would have to look up many lists."""
        unsaved = 0 if self.fingerprint is None else shelf.vectors.unsaved
        if at_the_end:
            return unsaved > 0
        return unsaved > len(shelf) * _UNSAVED_PART and time.monotonic() >= self._not_before_s

    def take(self, shelf: Shelf) -> Snapshot | None:
        """A copy of what a snapshot says; None for vectors that need none."""
        vectors = shelf.vectors
        if vectors.trained is None:
            return None
        self._states[shelf.content_type] = "writing"
        vectors.unsaved = 0
        return Snapshot(vectors.trained, shelf.prints.copy(), vectors.list_of(np.arange(len(shelf))))

    def write(self, content_type: ContentType, snapshot: Snapshot) -> bool:
        """Replace the file with this one. False when the disk refuses; then there is none.

        It need not be durable: what a power cut leaves of it is whole, or deleted at the next start.
        """
        with self._one_at_a_time:  # one that was given up may still be on its way
            return self._write(content_type, snapshot)

    def _write(self, content_type: ContentType, snapshot: Snapshot) -> bool:
        path, order = self._path(content_type), np.argsort(snapshot.prints, kind="stable")
        temporary = path.with_suffix(".tmp")
        head = asdict(snapshot.trained) | {"form": _FORM, "fingerprint": self.fingerprint, "type": content_type}
        parts = {"state": head.pop("state"), "prints": snapshot.prints[order], "lists": snapshot.lists[order]}
        parts["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
        try:
            temporary.unlink(missing_ok=True)  # what a crash left may be open to others
            with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                np.savez(file, allow_pickle=False, **parts)
            temporary.replace(path)
        except OSError as error:
            logger.warning("the snapshot %s could not be written (%s): a restart builds the index anew", path, error)
            self._not_before_s = time.monotonic() + _PAUSE_S
            self.delete(content_type)
            return False
        self._states[content_type] = "written"
        return True

    def _path(self, content_type: ContentType) -> Path:
        return self._folder / f"index-{content_type}.snapshot"
