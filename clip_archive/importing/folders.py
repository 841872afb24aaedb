"""Folders of files: their pictures and texts, with metadata.jsonl or metadata.csv where there is one, and their tars.

Links are followed, but for those that lead back to a folder they lie in. Hidden files, and what macOS leaves beside
files (._NAME, .DS_Store), are no contents.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ..kinds import kind_of_name
from .items import Bad, Found, composed, id_of, path_letter, shown
from .shards import Shard
from .tables import Table, open_table

TABLES = ("metadata.jsonl", "metadata.csv")
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")


class Folder:
    """All files below a folder, in the order of their names."""

    def __init__(self, path: Path, include: Sequence[str] = (), exclude: Sequence[str] = (), prefix: str = "") -> None:
        self._path = path
        self._include = include
        self._exclude = exclude
        self._prefix = prefix
        self.tally: Counter[str] = Counter()
        self.complete = True

    def count(self) -> int | None:
        """How many files there are that look like contents; more where tars and tables hold them."""
        other = Folder(self._path, self._include, self._exclude)
        return sum(1 for each, _ in other._files() if not isinstance(each, Bad))

    def __iter__(self) -> Iterator[Found | Bad]:
        for each, name in self._files():
            if isinstance(each, Bad):
                yield each
            elif os.path.basename(each) in TABLES:
                yield from self._of_table(open_table(Path(each), prefix=self._beside(name)))
            elif each.lower().endswith(".tar"):
                yield from self._of_table(Shard(Path(each), prefix=self._beside(name)))
            else:
                try:
                    yield file_found(each, self._prefix + name)
                except OSError as error:  # it has gone since it was listed
                    self.complete = False
                    yield Bad(shown(each), f"it cannot be read: {error.strerror}", path_letter(each))

    def _beside(self, name: str) -> str:
        """What the ids of a table's rows begin with: the table's folder."""
        folder = os.path.dirname(name)
        return self._prefix + (f"{folder}/" if folder else "")

    def _of_table(self, table: Table | Shard) -> Iterator[Found | Bad]:
        yield from table
        self.tally += table.tally
        self.complete &= table.complete

    def _files(self) -> Iterator[tuple[str | Bad, str]]:
        """(path as the system has it, name below the folder as ids have it) of all that may be a content."""
        yield from self._walk(os.fspath(self._path), "", ())

    def _walk(self, folder: str, below: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str | Bad, str]]:
        try:
            here = os.stat(folder)
            names = sorted(os.listdir(folder))
        except OSError as error:
            self.complete = False
            yield Bad(shown(folder), f"the folder cannot be read: {error.strerror}", path_letter(folder)), below
            return
        if (here.st_dev, here.st_ino) in above:
            self.tally["links skipped"] += 1
            return
        above = (*above, (here.st_dev, here.st_ino))
        # What a table says of files comes before the files themselves, which are then known.
        names.sort(key=lambda name: name not in TABLES)
        forms = composed(names)
        for name in names:
            path, place = os.path.join(folder, name), below + id_of(forms[name])
            if name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS:
                self.tally["ignored"] += 1
                continue
            try:
                mode = os.stat(path).st_mode
            except OSError as error:
                why = "the link leads nowhere" if os.path.islink(path) else f"it cannot be read: {error.strerror}"
                yield Bad(shown(path), why, path_letter(path)), place
                continue
            if stat.S_ISDIR(mode):
                yield from self._walk(path, f"{place}/", above)
            elif stat.S_ISREG(mode) and self._is_wanted(name, place):
                yield path, place
            else:
                self.tally["ignored"] += 1

    def _is_wanted(self, name: str, place: str) -> bool:
        if any(fnmatchcase(place, each) or fnmatchcase(name, each) for each in self._exclude):
            return False
        if name in TABLES or name.lower().endswith(".tar"):
            return True
        chosen = not self._include or any(fnmatchcase(place, each) or fnmatchcase(name, each) for each in self._include)
        return chosen and kind_of_name(name) is not None


def file_found(path: str, content_id: str) -> Found:
    """A file as a content; it is opened by exactly the name that its folder gave."""
    there = os.stat(path)

    def read() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    kind = kind_of_name(path)
    return Found(
        id=content_id,
        place=shown(os.path.abspath(path)),
        type=kind,
        read=read,
        mtime_ns=there.st_mtime_ns,
        size=there.st_size,
        letter={"id": content_id, "type": kind, **path_letter(path)},
    )


class SingleFile:
    """One file that is a picture or a text."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._path = path
        self._prefix = prefix
        self.tally: Counter[str] = Counter()
        self.complete = True

    def count(self) -> int | None:
        """One."""
        return 1

    def __iter__(self) -> Iterator[Found | Bad]:
        (form,) = composed([self._path.name]).values()
        yield file_found(os.fspath(self._path), self._prefix + id_of(form))
