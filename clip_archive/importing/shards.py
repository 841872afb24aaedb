"""Tars as img2dataset writes them for webdataset: files of one sample follow each other and share their name."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..kinds import PICTURES
from .items import Bad, Found, fitting, id_of, path_letter, shown

_MOST_TOLD_BYTES = 1 << 20
_SEEKABLE = ".tar"


class Shard:
    """The samples of one tar: each picture, with what its .json tells and its caption as metadata."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._path = path
        self._prefix = prefix
        self.tally: Counter[str] = Counter()
        self.complete = True

    def count(self) -> int | None:
        """Nobody knows without reading it."""
        return None

    def __iter__(self) -> Iterator[Found | Bad]:
        sample: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
        at = ""
        try:
            with tarfile.open(self._path, "r:*") as tar:
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # it would remember them all
                    name = os.path.basename(member.name)
                    if not member.isfile() or name.startswith("."):
                        self.tally["ignored"] += member.isfile()
                        continue
                    key, _, end = name.partition(".")
                    key = os.path.join(os.path.dirname(member.name), key)
                    if key != at:
                        yield from self._sample(at, sample)
                        at, sample = key, {}
                    sample[f".{end.lower()}"] = member, self._told(tar, member, end)
                yield from self._sample(at, sample)
        except (tarfile.TarError, OSError, EOFError) as error:
            self.complete = False
            path = os.path.abspath(self._path)
            yield Bad(shown(path), f"the tar cannot be read to its end: {error}", path_letter(path))

    def _told(self, tar: tarfile.TarFile, member: tarfile.TarInfo, end: str) -> bytes:
        """What a sample's text files hold; its picture is read when it is sent."""
        file = tar.extractfile(member) if end.lower() in ("json", "txt") else None
        return file.read(_MOST_TOLD_BYTES) if file is not None else b""

    def _sample(self, key: str, sample: dict[str, tuple[tarfile.TarInfo, bytes]]) -> Iterator[Found | Bad]:
        if not sample:
            return
        told: dict[str, Any] = {}
        place = shown(f"{os.path.abspath(self._path)}!{key}")
        if ".json" in sample:
            try:
                told = dict(msgspec.json.decode(sample[".json"][1]))
            except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, ValueError):
                self.tally["metadata unreadable"] += 1
        if ".txt" in sample and not told.get("caption"):
            told["caption"] = sample[".txt"][1].decode("utf-8", "replace").strip()
        pictures = [end for end in sample if end in PICTURES]
        if not pictures and ".txt" in sample:
            return (yield self._found(key, sample[".txt"][0], "text", None, place))
        if not pictures:
            self.tally["ignored"] += len(sample)
            return
        yield self._found(key, sample[pictures[0]][0], "image", fitting(told, self.tally), place)

    def _found(
        self, key: str, member: tarfile.TarInfo, kind: Any, metadata: dict[str, Any] | None, place: str
    ) -> Found:
        content_id, path = self._prefix + id_of(key), os.path.abspath(self._path)
        start, size, name = member.offset_data, member.size, member.name

        def read() -> bytes:
            if not path.lower().endswith(_SEEKABLE):
                return read_member(Path(path), name)
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(size)

        letter = {"id": content_id, "type": kind, **path_letter(path), "member": name, "metadata": metadata}
        return Found(content_id, place, kind, read, None, metadata, os.stat(path).st_mtime_ns, size, letter)


def read_member(path: Path, name: str) -> bytes:
    """One file of a tar. Raises OSError."""
    try:
        with tarfile.open(path, "r:*") as tar:
            file = tar.extractfile(name)
            if file is None:
                raise OSError(f"{path}!{name} is no file")
            return file.read()
    except (KeyError, tarfile.TarError) as error:
        raise OSError(f"{path}!{name} cannot be read: {error}") from error
