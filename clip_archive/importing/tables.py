"""Tables: CSV, and lines of JSON, among them exports of an archive and the dead letters of an import.

A row has `path` (or `file_name`) or `text`, and may have `id`, `type`, `user` and `metadata`; what else it has is
metadata, too. A mark at the beginning of the file (BOM) is passed over. What is wrong with a row costs that row.
"""

from __future__ import annotations

import base64
import codecs
import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..kinds import kind_of_name
from .items import Bad, Found, ImportFailure, fitting, id_of, path_letter, shown
from .shards import read_member

KNOWN = ("id", "type", "path", "text", "user", "metadata", "file_name", "member", "path_base64")
_BESIDE = ("error", "place", "again")  # of dead letters
_DELIMITERS = (",", ";", "\t", "|")
MOST_CHARACTERS = 1 << 24
"""Of a field of CSV, or of a line of JSON."""
_WIDE = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


class Table:
    """The rows of a table as contents; relative paths are relative to the table's folder."""

    def __init__(
        self,
        path: Path,
        prefix: str = "",
        delimiter: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """`columns`: what we call a column -> what the table calls it. Raises ImportFailure for what is no table."""
        self._path = path
        self._prefix = prefix
        self._columns = {there: here for here, there in (columns or {}).items()}
        self.tally: Counter[str] = Counter()
        self.complete = True
        self._lines = path.suffix.lower() != ".csv" and path.suffix.lower() != ".tsv"
        with path.open("rb") as file:
            head = file.read(4)
        if head[:2] in _WIDE:
            raise ImportFailure(f"{path} is {_WIDE[head[:2]]}: save it as UTF-8")
        if not self._lines:
            self._delimiter = delimiter or self._find_delimiter()

    def count(self) -> int | None:
        """The lines of the file: as many as its rows, or some more."""
        with self._path.open("rb") as file:
            return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))

    def __iter__(self) -> Iterator[Found | Bad]:
        for number, row in self._json_rows() if self._lines else self._csv_rows():
            place = f"{shown(str(self._path))}:{number}"
            if isinstance(row, str):
                yield Bad(place, row, {"place": place})
                continue
            named = {self._columns.get(name, name): value for name, value in row.items()}
            if self._lines and named.keys() & {"after", "summary"} and "id" not in named:
                continue  # of an export
            found = self._found(named, place)
            if found is not None:
                yield found

    def _find_delimiter(self) -> str:
        """By the header alone: the one that yields a column we know. Raises ImportFailure where none does."""
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = file.readline(1 << 16).rstrip("\r\n")
        heads = {each: next(csv.reader([header], delimiter=each), []) for each in _DELIMITERS}
        known = {each: sum(self._columns.get(name, name) in KNOWN for name in names) for each, names in heads.items()}
        best = max(_DELIMITERS, key=lambda each: known[each])
        if not known[best]:
            raise ImportFailure(
                f"{self._path} has none of the columns {', '.join(KNOWN[:6])}, but {header!a}:"
                " name its columns by --column path=NAME, its delimiter by --delimiter"
            )
        return best

    def _csv_rows(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """(physical line it begins at, row) of each; a row that cannot be read is why."""
        csv.field_size_limit(MOST_CHARACTERS)
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter=self._delimiter)
            heads = [name.strip() for name in next(reader, [])]
            while True:
                begins = reader.line_num + 1
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    yield begins, f"the row cannot be read: {error}"
                    continue
                if cells is None:
                    return
                if not cells:
                    continue
                if len(cells) > len(heads):
                    yield begins, f"the row has {len(cells)} values, and there are {len(heads)} columns"
                elif any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
                    yield begins, "the row is not UTF-8"
                else:
                    yield begins, {name: cell for name, cell in zip(heads, cells, strict=False) if cell}

    def _json_rows(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        with self._path.open("rb") as file:
            number = 0
            while line := file.readline(MOST_CHARACTERS):
                number += 1
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                try:
                    row = msgspec.json.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    yield number, f"the line is no JSON: {error}"
                    continue
                if not isinstance(row, dict):
                    yield number, "the line is no JSON object"
                elif isinstance(row.get("vector"), str) and "model" in row:
                    yield number, {"id": row.get("id"), "line": line.strip()}
                else:
                    yield number, row

    def _found(self, row: dict[str, Any], place: str) -> Found | Bad | None:
        line = row.get("line")
        if isinstance(line, bytes):
            return self._exported(str(row["id"]), line, place)
        letter = {name: value for name, value in row.items() if name not in _BESIDE}
        try:
            told = self._metadata(row)
        except (msgspec.MsgspecError, TypeError) as error:
            return Bad(place, f"its metadata is no JSON object: {error}", letter)
        path, text = row.get("path") or row.get("file_name"), row.get("text")
        said = {"user": row.get("user") or None, "metadata": told}
        if isinstance(row.get("path_base64"), str):
            path = os.fsdecode(base64.b64decode(row["path_base64"]))
        if isinstance(path, str):
            return self._file(path, row, said, place, letter)
        if isinstance(text, str):
            return self._text(text, row, said, place, letter)
        return Bad(place, "the row has neither a path nor a text, nor a vector with its model", letter)

    def _metadata(self, row: dict[str, Any]) -> dict[str, Any] | None:
        told = row.get("metadata") or {}
        told = msgspec.json.decode(told) if isinstance(told, str) else told
        others = {name: value for name, value in row.items() if name not in (*KNOWN, *_BESIDE)}
        return fitting(others | dict(told), self.tally)

    def _text(self, text: str, row: dict[str, Any], said: dict[str, Any], place: str, letter: dict[str, Any]) -> Found:
        data = text.encode("utf-8", "surrogatepass")
        content_id = str(row.get("id") or f"text-{hashlib.sha256(data).hexdigest()[:16]}")
        return Found(self._prefix + content_id, place, "text", lambda: data, size=len(data), letter=letter, **said)

    def _file(
        self, path: str, row: dict[str, Any], said: dict[str, Any], place: str, letter: dict[str, Any]
    ) -> Found | Bad:
        whole, member = os.path.join(self._path.parent, path), row.get("member")
        kind = row.get("type") or kind_of_name(member or path) or "image"
        content_id = self._prefix + (str(row["id"]) if row.get("id") else id_of(member or path))
        letter = {**letter, **path_letter(whole)}
        if kind not in ("text", "image"):
            return Bad(place, f"type is text or image, not {kind!a}", letter)
        try:
            there = os.stat(whole)
        except (OSError, ValueError) as error:
            return Bad(place, f"{path!a} cannot be read: {getattr(error, 'strerror', error)}", letter)

        def read() -> bytes:
            if member:
                return read_member(Path(whole), member)
            return Path(whole).read_bytes()

        where = shown(os.path.abspath(whole)) + (f"!{member}" if member else "")
        return Found(
            content_id, where, kind, read, mtime_ns=there.st_mtime_ns, size=there.st_size, letter=letter, **said
        )

    def _exported(self, content_id: str, line: bytes, place: str) -> Found:
        if self._prefix:
            line = msgspec.json.encode(msgspec.json.decode(line) | {"id": self._prefix + content_id})
        letter = {name: value for name, value in msgspec.json.decode(line).items() if name not in _BESIDE}
        return Found(self._prefix + content_id, place, None, lambda: line, size=len(line), letter=letter)


def open_table(path: Path, prefix: str = "") -> Table:
    """A table in a folder of contents."""
    return Table(path, prefix)
