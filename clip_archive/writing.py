"""Exports as files: lines of JSON that go on where they were cut, and numpy's format for other tools."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import msgspec
from msgspec.structs import replace

from .lines import CursorLine, ExportedContent

_DIMENSION = 512
_CURSOR = b'{"after"'
_HEAD_BYTES = 128  # of numpy's format, padded, so that the count can be written in the end


class ExportFile:
    """An export on its way into a file: NAME.part until it is whole, then NAME.

    `after` is where an earlier one was cut; what it had written behind that is cut off, and comes again.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self.count = 0
        self.after: str | None = None
        self._file = self._part.open("r+b" if self._part.exists() else "x+b")
        self._go_on()

    def _go_on(self) -> None:
        """Keep what stands before the last cursor."""
        whole = at = count = 0
        for line in self._file:
            at += len(line)
            if line.startswith(_CURSOR) and line.endswith(b"\n"):
                self.after = msgspec.json.decode(line, type=CursorLine).after
                whole, self.count = at, count
            else:
                count += 1
        self._file.seek(whole)
        self._file.truncate()

    def write(self, line: bytes, found: ExportedContent | None) -> None:
        """Take a line of an export, with the content it holds, if that is new."""
        if found is not None or line.startswith(_CURSOR):
            self._file.write(line + b"\n")
            self.count += found is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._file.flush()
        if failure is None:
            os.fsync(self._file.fileno())
            self._part.replace(self._path)
        self._file.close()


def write_numpy(folder: Path, contents: Iterable[ExportedContent]) -> int:
    """`vectors.npy`, (n, 512) float32, and `contents.jsonl`, whose lines are its rows; how many there are.

    Nothing is held in memory. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with (folder / "vectors.npy").open("wb") as vectors, (folder / "contents.jsonl").open("wb") as lines:
        vectors.write(_head(0))
        for content in contents:
            vectors.write(content.vector_bytes or bytes(4 * _DIMENSION))
            lines.write(msgspec.json.encode(replace(content, vector=None)) + b"\n")
            count += 1
        vectors.seek(0)
        vectors.write(_head(count))
    return count


def _head(count: int) -> bytes:
    """Of numpy's format 1.0 (numpy.lib.format)."""
    told = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {_DIMENSION}), }}".encode()
    return b"\x93NUMPY\x01\x00" + (_HEAD_BYTES - 10).to_bytes(2, "little") + told.ljust(_HEAD_BYTES - 11) + b"\n"
