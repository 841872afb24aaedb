"""What was said of a content goes with it: no answer tells it, and no file of DATA_DIR holds a word of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from index_sidecar.settings import Settings

from .support.erasing import on_disk
from .support.sidecar import Sidecar, running

COUNT = 80


def _told(number: int, when: str = "first") -> dict[str, object]:
    """Words that nothing else in a file of ours says, long and short."""
    words = f"word-{when}-{number:04}"
    return {"title": f"{words} " * (1 + number % 40), "tags": [f"tag-{when}-{number:04}"], f"name-{when}": words}


def _left(folder: Path, numbers: range, when: str = "first") -> list[int]:
    """Of which contents a word is left in a file."""
    disk = on_disk(folder)
    return [
        number
        for number in numbers
        if any(f"{start}-{when}-{number:04}".encode() in disk for start in ("word", "tag")) or _hex(number, when, disk)
    ]


def _hex(number: int, when: str, disk: bytes) -> bool:
    return f"word-{when}-{number:04}".encode().hex().upper().encode() in disk


async def _all_answers(sidecar: Sidecar) -> str:
    """What every call tells of metadata."""
    replies = [
        await sidecar.call("GET", "/contents?limit=1000"),
        await sidecar.retrieve(b"question", k="1000", fields="metadata"),
        await sidecar.retrieve(b"question", k="1000", fields="metadata", target="each", fold="true"),
        await sidecar.call("POST", "/recommend?user=ann&k=100&fields=metadata"),
        await sidecar.call("GET", "/contents/kept/similar?k=1000&fields=metadata"),
    ]
    assert {reply.status for reply in replies} == {200}
    return json.dumps([reply.json for reply in replies])


async def test_metadata_goes_with_what_is_erased_replaced_or_patched(settings: Settings) -> None:
    numbers = range(COUNT)
    async with running(settings) as sidecar:
        await sidecar.add("kept", b"kept", user="ann", metadata=json.dumps(_told(9999)))
        adds = (sidecar.add(f"{n}", b"text %d" % n, user="bob", metadata=json.dumps(_told(n))) for n in numbers)
        assert {reply.status for reply in await asyncio.gather(*adds)} == {201}
        assert _left(settings.data_dir, numbers) == list(numbers)  # the search finds what is there
        assert "word-first-0000" in await _all_answers(sidecar)

        erased, replaced, told_anew, patched = (range(first, COUNT, 4) for first in range(4))
        patch = {"title": None, "tags": None, "name-first": None}
        changes = [sidecar.call("DELETE", f"/contents/{n}") for n in erased]
        changes += [sidecar.add(f"{n}", b"other %d" % n) for n in replaced]
        changes += [
            sidecar.add(f"{n}", b"text %d" % n, user="bob", metadata=json.dumps(_told(n, "then"))) for n in told_anew
        ]
        changes += [
            sidecar.call("PATCH", f"/contents/{n}", json.dumps(patch | {"title2": f"word-then-{n:04}"}).encode())
            for n in patched
        ]
        assert {reply.status for reply in await asyncio.gather(*changes)} == {200, 204}
        assert _left(settings.data_dir, numbers) == []
        told = await _all_answers(sidecar)
        assert "word-first-9999" in told
        assert not [n for n in numbers if f"-first-{n:04}" in told]
        assert [n for n in numbers if f"word-then-{n:04}" in told] == [n for n in numbers if n % 4 > 1]
        for n in (0, 1, 2, 3):  # nor does a filter find it by what was said
            condition = json.dumps({"must": [{"key": "tags", "match": {"value": f"tag-first-{n:04}"}}]})
            assert (await sidecar.call("GET", "/contents", params={"filter": condition})).json["contents"] == []
    assert _left(settings.data_dir, numbers) == []


async def test_no_table_that_is_searched_holds_a_word(settings: Settings) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"one", metadata=json.dumps(_told(1)))
    with closing(sqlite3.connect(settings.data_dir / "contents.sqlite")) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if table == "metadata":  # blocks, which leave nothing behind
                continue
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()
            assert not any(word in str(row) for row in rows for word in ("word-", "tag-", "name-first")), table
