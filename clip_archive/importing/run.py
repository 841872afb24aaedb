"""An import as the command makes it: its sources, its journal, its dead letters, and what is told of it."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from ..archive import Archive
from ..async_archive import AsyncArchive
from ..contract import mismatch
from ..kinds import kind_of_name
from ..retries import Patience
from .engine import Import
from .folders import Folder, SingleFile
from .items import Found, ImportFailure, Source
from .journal import NAME, Journal
from .plan import Plan, Result
from .shards import Shard
from .shrinking import check_possible, shrunk
from .tables import Table

FAILED = "clip-archive-failed.jsonl"
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz")
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Options:
    """What the command was told."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    prefix: str = ""
    delimiter: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    journal: Path | None = None
    failed: Path | None = None
    delete: bool = False
    shrink: int | None = None
    plan: Plan = field(default_factory=Plan)


def source_of(path: Path, options: Options) -> Source:
    """What a path holds. Raises ImportFailure."""
    name = path.name.lower()
    if path.is_dir():
        return Folder(path, options.include, options.exclude, options.prefix)
    if not path.exists():
        raise ImportFailure(f"there is no {str(path)!a}")
    if name.endswith(_TARS):
        return Shard(path, options.prefix)
    if name.endswith(_TABLES):
        return Table(path, options.prefix, options.delimiter, options.columns)
    if kind_of_name(name) is None:
        raise ImportFailure(f"{str(path)!a} is no folder, picture, text, table (.csv, .jsonl) or tar")
    return SingleFile(path, options.prefix)


def run(archive: Archive, paths: Sequence[Path], options: Options, quiet: bool) -> tuple[Result, Path | None, int]:
    """Import paths: what became of them, where the dead letters are, and how many were erased.

    Raises ImportFailure, ArchiveError.
    """
    if options.shrink is not None:
        check_possible()
    if (unlike := mismatch(archive.contract())) is not None:
        raise unlike
    roots = [Path(os.path.abspath(path)) for path in paths]
    sources = [(os.fspath(root), source_of(root, options)) for root in roots]
    beside = Path(os.path.commonpath([root.parent for root in roots]))
    place = options.journal or beside / NAME
    journal = Journal(place, archive.address.url)
    failed = options.failed or place.parent / FAILED
    try:
        return asyncio.run(_run(archive, journal, sources, failed, options, quiet))
    finally:
        journal.close()


async def _run(
    archive: Archive,
    journal: Journal,
    sources: Sequence[tuple[str, Source]],
    failed: Path,
    options: Options,
    quiet: bool,
) -> tuple[Result, Path | None, int]:
    counts = [source.count() for _, source in sources] if not quiet else []
    total = sum(count or 0 for count in counts) if None not in counts else None
    plan = options.plan
    if options.shrink is not None:
        plan = replace(plan, change=functools.partial(_shrink, options.shrink))
    patience = Patience(attempts=1, silence_s=120.0)
    bar: tqdm[Any] = tqdm(total=total, unit="content", file=sys.stderr, disable=quiet, smoothing=0.1)
    with bar:
        async with AsyncArchive(archive.address.url, key=archive.address.key, patience=patience) as client:
            importing = Import(client, journal, plan, lambda count, word: _told(bar, count))
            result = await importing.run(sources)
            erased = 0
            if options.delete and result.stopped is None:
                _check_mirror(result, sources)
                erased = sum([await importing.mirror(root) for root, _ in sources])
    return result, None if plan.dry_run else _write_letters(journal, failed), erased


def _shrink(pixels: int, found: Found, data: bytes) -> bytes:
    return shrunk(data, pixels)


def _told(bar: tqdm[Any], count: int) -> None:
    bar.update(count)
    if bar.total is not None and bar.n > bar.total:  # a folder's tars hold more than was counted
        bar.total = None


def _check_mirror(result: Result, sources: Sequence[tuple[str, Source]]) -> None:
    """Raises ImportFailure where what is missing may only not have been seen."""
    if not result.found:
        raise ImportFailure("nothing was found, so nothing is erased: is the folder there?")
    if not all(source.complete for _, source in sources):
        raise ImportFailure("not all could be read, so nothing is erased")


def _write_letters(journal: Journal, path: Path) -> Path | None:
    """All that failed, a row each that `import` reads again; no file where nothing did."""
    new = path.with_name(f".{path.name}.new")
    count = 0
    with new.open("wb") as file:
        for letter in journal.failed():
            file.write(msgspec.json.encode(letter) + b"\n")
            count += 1
    if count:
        new.replace(path)
        return path
    new.unlink()
    path.unlink(missing_ok=True)
    return None
