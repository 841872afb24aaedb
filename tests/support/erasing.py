"""Texts that nobody else says, what is left of them on the disk, and other programs that read it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from index_sidecar.archive.content import Content, Embedding
from index_sidecar.archive.ports import Written

from .fake_torchserve import FINGERPRINT
from .fake_vectors import vector_of


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def left_of(folder: Path, texts: list[bytes]) -> list[bytes]:
    """Which of these texts have left their vector or themselves in a file."""
    disk = on_disk(folder)
    vectors = {text: vector_of(text, "text") for text in texts}
    return [
        text
        for text, vector in vectors.items()
        if text in disk or vector.tobytes()[:256] in disk or vector.astype("<f2").tobytes()[:128] in disk
    ]


def nth_text(number: int) -> bytes:
    return b"the text number %d, which nobody else says" % number


async def overwritten(writes: Sequence[Written]) -> None:
    assert all(await asyncio.gather(*(written.is_overwritten(10) for written in writes)))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Another program in the middle of a read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM contents").fetchall()
        yield
        reader.execute("COMMIT")


def nth_content(number: int) -> Content:
    embedding = Embedding(vector_of(nth_text(number), "text"), FINGERPRINT)
    return Content(f"id {number}", "text", "ann", bytes(32), 0.0, embedding)
