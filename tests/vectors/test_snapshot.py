"""Snapshots: a restart is right whatever has happened to them, and no vector is in them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import resource
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from index_sidecar.archive.content import Content, Vector
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex
from index_sidecar.vectors.training import LEAST_ROWS, better_centroids, train

from ..archive.test_index_contract import best
from .test_index import built, contents_of, neighbourhoods

ROWS = 600


class Archive:
    """A store with its index, opened and closed as the sidecar does."""

    def __init__(self, folder: Path, exact_rows: int = 100, recall: float = 0.9) -> None:
        self.exact_rows = exact_rows
        self.recall = recall
        self.folder = folder
        self.file = folder / "index-image.snapshot"
        self.contents: dict[str, Content] = {}

    async def open(self) -> None:
        self.store = SqliteStore(self.folder / "contents.sqlite")
        self.index = FaissIndex(self.folder, "float32", self.exact_rows, self.recall)
        await self.index.load(self.store)

    async def close(self) -> None:
        await self.index.close()
        await self.store.close()

    async def upsert(self, contents: list[Content]) -> None:
        await asyncio.gather(*(self.store.put(content) for content in contents))
        await self.index.upsert(contents)
        self.contents |= {content.id: content for content in contents}

    async def delete(self, content_id: str) -> None:
        await self.store.delete(content_id)
        await self.index.delete([content_id])
        del self.contents[content_id]

    async def check(self) -> None:
        """The index holds what the store holds, and every content is found by its own vector."""
        assert await self.index.count("image") == len(self.contents)
        for query in neighbourhoods(3, 99):
            hits = await self.index.search(query, 10**4, "image", None)
            true = {hit.id: hit for hit in best(self.contents.values(), query, 10**4, "image", None)}
            assert {hit.id: hit.user for hit in hits} == {each.id: each.user for each in true.values()}
            assert [hit.score for hit in hits] == pytest.approx([true[hit.id].score for hit in hits], abs=2e-4)


@pytest.fixture
def archive(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Archive]:
    """An open archive of so many images with a snapshot of them."""
    archive = Archive(tmp_path / "data")

    async def fill() -> None:
        await archive.open()
        await archive.upsert(contents_of(ROWS))
        await built(archive.index)

    runner.run(fill())
    yield archive
    runner.run(archive.close())


async def _restart(archive: Archive, caplog: pytest.LogCaptureFixture) -> str:
    await archive.close()
    return await _start(archive, caplog)


async def _start(archive: Archive, caplog: pytest.LogCaptureFixture) -> str:
    """How the images were loaded."""
    caplog.clear()
    with caplog.at_level("INFO"):
        await archive.open()
    lines = [record.getMessage() for record in caplog.records if "image index:" in record.getMessage()]
    await archive.check()
    return lines[0]


def _holds(folder: Path, vector: Vector) -> list[str]:
    """Which files other than the store's hold a good part of a vector, as float32 or as float16."""
    forms = [vector.tobytes()[:64], vector.astype(np.float16).tobytes()[:32]]
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a snapshot that was finished meanwhile has its final name
            if not path.name.startswith("contents.sqlite") and any(form in path.read_bytes() for form in forms):
                found.append(path.name)
    return found


async def test_a_restart_takes_from_the_snapshot_what_a_build_has_learned(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    state = await archive.index.state("image")
    assert f"approximate, {ROWS} contents, 0 of them unknown" in await _restart(archive, caplog)
    assert await archive.index.state("image") == state  # nprobe and recall, too


async def test_what_came_after_the_snapshot_is_in_its_nearest_list(
    archive: Archive, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    shutil.copy(archive.file, tmp_path / "old")
    await archive.upsert(contents_of(5, 2))
    await archive.upsert([replace(contents_of(1, 5)[0], id="1 00007")])
    await archive.upsert([replace(archive.contents["1 00008"], user="new owner")])
    await archive.delete("1 00009")
    await archive.close()
    shutil.copy(tmp_path / "old", archive.file)  # as after a crash
    assert f"approximate, {ROWS + 4} contents, 6 of them unknown" in await _start(archive, caplog)
    for content_id in ("1 00007", "2 00003", "1 00400"):
        (hit,) = await archive.index.search(archive.contents[content_id].embedding.vector, 1, "image", None)
        assert hit.id == content_id


async def test_a_snapshot_that_lacks_a_tenth_is_written_anew(archive: Archive) -> None:
    before = archive.file.stat().st_ino
    await archive.upsert(contents_of(ROWS // 8, 2))
    async with asyncio.timeout(20):
        while archive.file.stat().st_ino == before or (await archive.index.state("image")).snapshot != "written":
            await asyncio.sleep(0.005)
    assert list(archive.file.parent.glob("*.tmp")) == []
    await archive.check()


async def test_at_an_orderly_end_it_is_written_when_anything_changed(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    await archive.upsert(contents_of(3, 2))
    assert f"{ROWS + 3} contents, 0 of them unknown" in await _restart(archive, caplog)
    before = archive.file.stat().st_ino
    await _restart(archive, caplog)
    assert archive.file.stat().st_ino == before


async def test_no_vector_is_in_it(archive: Archive) -> None:
    assert stat.S_IMODE(archive.file.stat().st_mode) == 0o600
    assert archive.file.stat().st_size < ROWS * 12 + 200_000
    for content in archive.contents.values():
        assert _holds(archive.folder, content.embedding.vector) == []


async def test_what_an_approximate_index_has_learned_tells_no_single_vector(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", recall=0.0)
    await archive.open()
    # Hermits, and a crowd of equals: k-means gives each of them a centroid of its own.
    vectors = [*neighbourhoods(30, 3, groups=10**5), *[neighbourhoods(1, 4, groups=10**5)[0]] * 20]
    contents = contents_of(400)
    for number, vector in enumerate(vectors):
        contents[number] = replace(contents[number], embedding=replace(contents[number].embedding, vector=vector))
    await archive.upsert(contents)
    await built(archive.index)
    for vector in vectors:
        assert _holds(archive.folder, vector) == []
    await archive.close()


def _alike(count: int) -> Vector:
    """Pictures that were saved again and again: hardly different."""
    rows = neighbourhoods(1, 4, groups=10**5) + np.random.default_rng(1).normal(0, 1e-4, (count, 512))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("count", [1, 2, LEAST_ROWS - 1])
async def test_nothing_is_learned_of_few_contents_however_often_they_come(tmp_path: Path, count: int) -> None:
    archive = Archive(tmp_path / "data", recall=-1.0)
    await archive.open()
    few, contents = neighbourhoods(count, 3, groups=10**5), contents_of(400)
    vectors = [few[number % count] for number in range(400)]
    await archive.upsert(
        [replace(each, embedding=replace(each.embedding, vector=v)) for each, v in zip(contents, vectors, strict=True)]
    )
    async with asyncio.timeout(10):
        while archive.index._builder.refused("image") is None:
            await asyncio.sleep(0.01)
    assert (await archive.index.state("image")).kind == "exact"
    assert not archive.file.exists()
    await archive.close()


@pytest.mark.parametrize("others", [0, 500])
def test_no_centre_is_nearly_one_of_contents_that_are_hardly_different(others: int) -> None:
    alike = _alike(40)
    sample = np.concatenate([alike, neighbourhoods(others, 5, groups=10**5)]) if others else alike
    learned = train(better_centroids(None, sample, 16), sample, len(sample))
    if others == 0:
        assert learned is None
        return
    assert learned is not None
    index = faiss.deserialize_index(learned.state)
    centres = index.quantizer.reconstruct_n(0, index.nlist)
    assert ((centres[:, np.newaxis] - sample) ** 2).sum(axis=2).min() > 1e-3


def test_the_reach_of_the_codes_is_no_vector_that_lies_apart() -> None:
    # From the least to the greatest value of each dimension, half of the bounds would be the hermit's own numbers.
    crowd = neighbourhoods(2000, 1, groups=1)
    hermit = -crowd.mean(axis=0)
    hermit /= np.linalg.norm(hermit)
    sample = np.concatenate([crowd, hermit.reshape(1, -1)])
    learned = train(better_centroids(None, sample, 16), sample, len(sample))
    assert learned is not None
    numbers = {hermit[place].tobytes() for place in range(512)}
    state = learned.state.tobytes()
    assert sum(number in state for number in numbers) < 5


async def test_what_a_crash_left_of_one_lends_it_no_mode(archive: Archive) -> None:
    left = archive.file.with_suffix(".tmp")
    left.write_bytes(b"half of it")
    left.chmod(0o644)
    before = archive.file.stat().st_ino
    await archive.upsert(contents_of(100, 7))
    async with asyncio.timeout(10):
        while archive.file.stat().st_ino == before:
            await asyncio.sleep(0.01)
    assert stat.S_IMODE(archive.file.stat().st_mode) == 0o600


async def test_an_old_snapshot_gives_only_what_is_still_true(
    archive: Archive, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    shutil.copy(archive.file, tmp_path / "old")
    await archive.delete("1 00100")
    await archive.upsert([replace(contents_of(1, 5)[0], id="1 00101"), *contents_of(3, 6)])
    await archive.close()
    shutil.copy(tmp_path / "old", archive.file)
    assert f"{ROWS + 2} contents, 4 of them unknown" in await _start(archive, caplog)


async def test_the_same_bytes_under_two_ids(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.upsert([replace(archive.contents["1 00100"], id="twin", user="twin")])
    assert f"{ROWS + 1} contents, 0 of them unknown" in await _restart(archive, caplog)
    await archive.delete("1 00100")
    assert f"{ROWS} contents, 0 of them unknown" in await _restart(archive, caplog)


def _parts(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data)) as parts:
        return dict(parts)


def _whole(parts: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **parts)
    return file.getvalue()


def _head(data: bytes, **changes: object) -> bytes:
    parts = _parts(data)
    head = json.loads(parts["head"].tobytes()) | changes
    return _whole(parts | {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)})


HARM: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "last byte": lambda data: data[:-1],
    "of an older program": lambda _: b"clipidx2" + bytes(5000),
    "not what Faiss has written": lambda data: _whole(_parts(data) | {"state": np.zeros(1000, np.uint8)}),
    "half of what Faiss has written": lambda data: _whole(_parts(data) | {"state": _parts(data)["state"][:2000]}),
    "lists that are not there": lambda data: _whole(_parts(data) | {"lists": _parts(data)["lists"] + 10**6}),
    "lists before the first": lambda data: _whole(_parts(data) | {"lists": _parts(data)["lists"] - 10**6}),
    "lists and prints that do not match": lambda data: _whole(_parts(data) | {"lists": _parts(data)["lists"][:-1]}),
    "lists of another type": lambda data: _whole(_parts(data) | {"lists": _parts(data)["lists"].astype(np.float64)}),
    "of before nothing learned was a vector": lambda data: _head(data, form=1),
    "another model's": lambda data: _head(data, fingerprint="another"),
    "another type's": lambda data: _head(data, type="text"),
    "a field more": lambda data: _head(data, more=1),
    "a field's type": lambda data: _head(data, reached="much"),
    "no header": lambda data: _whole({name: part for name, part in _parts(data).items() if name != "head"}),
}


@pytest.mark.parametrize("harm", HARM)
async def test_what_cannot_be_used_is_deleted_and_the_store_read(
    archive: Archive, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    await archive.close()
    archive.file.write_bytes(HARM[harm](archive.file.read_bytes()))
    before = archive.file.stat().st_ino
    assert f"image index: exact, {ROWS} contents" in await _start(archive, caplog)
    assert "snapshot is deleted" in caplog.text
    await built(archive.index)
    assert archive.file.stat().st_ino != before or archive.file.stat().st_size > 5000
    await archive.check()


async def test_one_flipped_byte_anywhere_does_no_harm(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    data = archive.file.read_bytes()
    for place in [0, 9, *range(400, len(data), len(data) // 12), len(data) - 30, len(data) - 1]:
        broken = bytearray(data)
        broken[place] ^= 0x10
        archive.file.write_bytes(broken)
        log = await _start(archive, caplog)  # which checks all answers
        # A few bytes, the dates of the parts, say nothing; of what we read, none is believed.
        assert "exact" in log or not 400 < place < len(data) - 600, place
        await archive.close()
    archive.file.write_bytes(data)
    assert f"approximate, {ROWS} contents, 0 of" in await _start(archive, caplog)


async def test_a_missing_snapshot_and_a_leftover_of_a_crash(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    leftovers = [
        archive.file.rename(archive.file.with_suffix(".tmp")),
        archive.file.with_suffix(".0a1b2c3d.tmp"),
    ]
    leftovers[1].write_bytes(b"an older program's")
    assert f"exact, {ROWS} contents" in await _start(archive, caplog)
    await built(archive.index)
    assert not any(leftover.exists() for leftover in leftovers)


async def test_a_type_that_is_searched_exactly_has_none(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    archive.exact_rows = ROWS
    assert f"exact, {ROWS} contents" in await _start(archive, caplog)
    await _restart(archive, caplog)
    assert not archive.file.exists()


async def test_a_recall_that_was_raised_is_looked_at_again(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    archive.recall = 1.1
    assert f"exact, {ROWS} contents" in await _start(archive, caplog)
    assert "it reached a recall of" in caplog.text
    async with asyncio.timeout(20):
        while "stays exact" not in caplog.text:
            await asyncio.sleep(0.005)
    await archive.close()
    archive.recall = 0.5
    await _start(archive, caplog)
    await built(archive.index)
    await archive.close()
    archive.recall = 0.4
    assert f"approximate, {ROWS} contents, 0 of" in await _start(archive, caplog)


async def test_a_disk_that_takes_no_snapshot_stops_nothing(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    more = contents_of(ROWS // 5, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (archive.file.stat().st_size // 2, hard))
    try:
        await archive.index.upsert(more)
        async with asyncio.timeout(20):
            while "could not be written" not in caplog.text:
                await asyncio.sleep(0.005)
        while (await archive.index.state("image")).snapshot == "writing":
            await asyncio.sleep(0.005)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(archive.folder.glob("index-*")) == []
    archive.contents |= {content.id: content for content in more}
    await archive.check()
    await asyncio.gather(*(archive.store.put(content) for content in more))
    # At the end it is tried once more.
    assert f"approximate, {len(archive.contents)} contents, 0 of them unknown" in await _restart(archive, caplog)
