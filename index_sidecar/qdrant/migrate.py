"""Move an archive from this machine's SQLite to a Qdrant cluster: python -m index_sidecar migrate --to qdrant://...

What has arrived is asked of the cluster, a step at a time, and left out: so an interrupted run goes on where it was,
and one after an hour's use brings only what is new. It ends with a comparison of both sides.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from tqdm import tqdm

from ..archive.content import CONTENT_TYPES, Content
from ..archive.metadata import write_metadata
from ..archive.ports import Archive
from .store import QdrantStore

HELP = "move the archive in DATA_DIR to a Qdrant cluster"
DESCRIPTION = """\
Move the archive in DATA_DIR to a Qdrant cluster, with its previews and the originals of its texts, and compare both in
the end. Originals of pictures stay in DATA_DIR: a cluster keeps none.

  1. Stop the sidecar: the archive must not change meanwhile. This command refuses to run beside it.
  2. python -m index_sidecar migrate --to qdrant://node-1,node-2,node-3
     It may be interrupted and run again: it goes on with what is missing.
  3. Start as many sidecars as you like with INDEX_URL set to the same URL. Keep DATA_DIR until you trust them.

The collection is made with QDRANT_SHARDS and QDRANT_REPLICATION of the environment; QDRANT_API_KEY_FILE and
QDRANT_TIMEOUT_S count, too. DATA_DIR is only read. Contents that are in the collection but not in DATA_DIR are an
error, since two archives would be mixed: name an empty collection, as in qdrant://HOST/COLLECTION.
"""
_CONTENTS_A_STEP = 100
_TEXTS_A_CALL_BYTES = 16 << 20  # with all else below the 32 MB that Qdrant takes at once
_SAMPLE = 500


class MigrationError(Exception):
    """The archive is not, or not as a whole, on the cluster; the message says what to do."""


async def migrate(source: Archive, target: QdrantStore) -> None:
    """All of `source` to the cluster, with a progress bar on standard error. Raises MigrationError, ContentError."""
    total = await source.count()
    with tqdm(total=total, desc="migrate", unit="content", file=sys.stderr) as bar:
        sent = await copy(source, target, bar.update)
    print(f"migrate: {sent} contents sent, {total - sent} were there already", file=sys.stderr)
    await compare(source, target)
    print(f"migrate: done, {total} contents; {min(total, _SAMPLE)} compared bit by bit", file=sys.stderr)


async def copy(source: Archive, target: QdrantStore, progress: Callable[[int], object]) -> int:
    """Put into `target` all that is in `source` and not, or otherwise, in `target`; how many contents that were."""
    sent = 0
    pages = source.scan(_CONTENTS_A_STEP)
    while page := await asyncio.to_thread(next, pages, None):
        there = {content.id: content for content in await target.get_many([content.id for content in page])}
        missing = [content for content in page if not _same(content, there.get(content.id))]
        texts = await _texts(source, missing)
        for some in _calls(missing, texts):
            previews = [await source.preview(content.id) for content in some]
            await target.put_all(
                [(content, found[1] if found else None) for content, found in zip(some, previews, strict=True)], texts
            )
        sent += len(missing)
        progress(len(page))
    return sent


async def _texts(source: Archive, contents: Sequence[Content]) -> dict[str, bytes]:
    """Their originals by id, of those that have one."""
    found = {}
    for content in contents:
        if content.type == "text" and (there := await source.originals.open(content.id)) is not None:
            _, kept = there
            found[content.id] = await kept.read(0, kept.size)
            kept.close()
    return found


def _calls(contents: Sequence[Content], texts: Mapping[str, bytes]) -> Iterator[list[Content]]:
    """As many as one call takes, at a time."""
    some: list[Content] = []
    size = 0
    for content in contents:
        size += len(texts.get(content.id, b""))
        if some and size > _TEXTS_A_CALL_BYTES:
            yield some
            some, size = [], len(texts.get(content.id, b""))
        some.append(content)
    if some:
        yield some


async def compare(source: Archive, target: QdrantStore) -> None:
    """Raises MigrationError unless both hold as many contents, and a sample of them is the same bit by bit."""
    counts = dict.fromkeys(CONTENT_TYPES, 0)
    sample: list[Content] = []
    numbers, seen = random.Random(0), 0  # noqa: S311
    pages = source.scan(_CONTENTS_A_STEP)
    while page := await asyncio.to_thread(next, pages, None):
        for content in page:
            # Reservoir sampling (Vitter 1985, algorithm R): each content with the same probability, in one pass.
            counts[content.type] += 1
            seen += 1
            place = seen - 1 if seen <= _SAMPLE else numbers.randrange(seen)
            if place < _SAMPLE:
                sample[place : place + 1] = [content]
    for content_type, count in counts.items():
        if (found := await target.count(content_type)) != count:
            raise MigrationError(
                f"DATA_DIR has {count} contents of the type {content_type}, the collection {found}. More: it held"
                " others, or was written to meanwhile. Fewer: it was deleted from. Nothing was lost in DATA_DIR; name"
                " an empty collection, or start sidecars on this one if that is what you want"
            )
    for first in range(0, len(sample), _CONTENTS_A_STEP):
        await _compare(sample[first : first + _CONTENTS_A_STEP], source, target)


async def _compare(sample: Sequence[Content], source: Archive, target: QdrantStore) -> None:
    there = {content.id: content for content in await target.get_many([content.id for content in sample])}
    for content in sample:
        here, arrived = await source.preview(content.id), await target.preview(content.id)
        same_preview = (here and here[1]) == (arrived and arrived[1])
        if not (same_preview and _same(content, there.get(content.id))):
            raise MigrationError(f"the content {content.id!r} is not on the cluster as it is here: run this once more")


def _same(here: Content, there: Content | None) -> bool:
    return there is not None and _fields(here) == _fields(there)


def _fields(content: Content) -> tuple[object, ...]:
    embedding = content.embedding
    head = (content.type, content.user, content.sha256, content.created, write_metadata(content.metadata))
    return (*head, embedding.fingerprint, embedding.truncated, embedding.vector.tobytes())
