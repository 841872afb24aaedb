"""Snapshots: a restart from them is right whatever has happened to them, and nothing erased is left in them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index_sidecar.archive.content import Content, Vector
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.disk import Disk
from index_sidecar.vectors.index import FaissIndex
from index_sidecar.vectors.snapshot import Header, Snapshot

from ..archive.test_index_contract import best
from .test_index import NEVER, built, contents_of, neighbourhoods

ROWS = 600
KINDS = {"exact": NEVER, "approximate": 100}


class Archive:
    """A store with its index, opened and closed as the sidecar does."""

    def __init__(self, folder: Path, exact_rows: int, least_rows: int = 1, recall: float = 0.9) -> None:
        self.exact_rows = exact_rows
        self.least_rows = least_rows
        self.recall = recall
        self.folder = folder
        self.file = folder / "index-image.snapshot"
        self.contents: dict[str, Content] = {}

    async def open(self) -> None:
        self.store = SqliteStore(self.folder / "contents.sqlite")
        self.index = FaissIndex(self.folder, "float32", self.exact_rows, self.recall, self.least_rows)
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
        await self.index.delete(content_id)
        del self.contents[content_id]

    async def written(self) -> None:
        async with asyncio.timeout(20):
            while (await self.index.state("image")).snapshot != "written" or (
                await self.index.state("image")
            ).build is not None:
                await asyncio.sleep(0.005)

    async def check(self) -> None:
        """The index holds what the store holds, and every content is found by its own vector."""
        assert await self.index.count("image") == len(self.contents)
        for query in neighbourhoods(3, 99):
            hits = await self.index.search(query, 10**4, "image", None)
            true = {hit.id: hit for hit in best(self.contents.values(), query, 10**4, "image", None)}
            assert {hit.id: hit.user for hit in hits} == {each.id: each.user for each in true.values()}
            assert [hit.score for hit in hits] == pytest.approx([true[hit.id].score for hit in hits], abs=2e-4)


@pytest.fixture(params=KINDS)
def archive(request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path: Path) -> Iterator[Archive]:
    """An open archive of so many images with a finished snapshot of them."""
    archive = Archive(tmp_path / "data", KINDS[request.param])

    async def fill() -> None:
        await archive.open()
        await archive.upsert(contents_of(ROWS))
        if archive.exact_rows < NEVER:
            await built(archive.index)
        await archive.written()

    runner.run(fill())
    yield archive
    runner.run(archive.close())


def _log(caplog: pytest.LogCaptureFixture) -> str:
    """How the images were loaded."""
    return [record.getMessage() for record in caplog.records if "image index:" in record.getMessage()][-1]


async def _restart(archive: Archive, caplog: pytest.LogCaptureFixture) -> str:
    await archive.close()
    return await _start(archive, caplog)


async def _start(archive: Archive, caplog: pytest.LogCaptureFixture) -> str:
    caplog.clear()
    with caplog.at_level("INFO"):
        await archive.open()
    await archive.check()
    return _log(caplog)


def _holds(folder: Path, vector: Vector) -> list[str]:
    """Which files other than the store's hold a vector, as float32 or as float16."""
    forms = [vector.tobytes(), vector.astype(np.float16).tobytes()]
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a snapshot that was finished meanwhile has its final name
            if not path.name.startswith("contents.sqlite") and any(form in path.read_bytes() for form in forms):
                found.append(path.name)
    return found


async def test_a_restart_reads_the_snapshot(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    state = await archive.index.state("image")
    assert f"{ROWS} contents from its snapshot, 0 from the store" in await _restart(archive, caplog)
    assert await archive.index.state("image") == state  # nprobe and recall, too


async def test_what_came_after_the_snapshot_is_read_from_the_store(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    more = contents_of(5, 2)
    await archive.upsert(more)
    await archive.upsert([replace(more[0], id="1 00007"), replace(archive.contents["1 00008"], user="new owner")])
    await archive.delete("1 00009")
    # The snapshot lacks too little to be written anew at the end.
    assert f"{ROWS - 2} contents from its snapshot, 6 from the store" in await _restart(archive, caplog)


async def test_a_snapshot_that_lacks_a_tenth_is_written_anew(archive: Archive) -> None:
    before = archive.file.stat().st_ino
    await archive.upsert(contents_of(ROWS // 8, 2))
    async with asyncio.timeout(20):
        while archive.file.stat().st_ino == before or (await archive.index.state("image")).snapshot != "written":
            await asyncio.sleep(0.005)
    assert list(archive.file.parent.glob("*.tmp")) == []
    await archive.check()


async def test_at_an_orderly_end_it_is_written_when_a_hundredth_is_missing(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    await archive.upsert(contents_of(ROWS // 20, 2))
    assert f"{ROWS + ROWS // 20} contents from its snapshot, 0 from" in await _restart(archive, caplog)


@pytest.mark.parametrize("way", ["delete", "replace", "other type"])
async def test_what_is_erased_is_in_no_file_when_that_is_acknowledged(archive: Archive, way: str) -> None:
    content = archive.contents["1 00123"]
    assert _holds(archive.folder, content.embedding.vector) == [archive.file.name]
    other = replace(contents_of(1, 5)[0], id=content.id)
    if way == "delete":
        await archive.delete(content.id)
    else:
        await archive.upsert([other if way == "replace" else replace(other, type="text")])
    assert _holds(archive.folder, content.embedding.vector) == []
    assert _holds(archive.folder, archive.contents["1 00599"].embedding.vector) == [archive.file.name]


async def test_what_moved_in_memory_is_still_erased_where_it_is(archive: Archive) -> None:
    contents = list(archive.contents.values())
    for number, content in enumerate(contents[::-2] + contents[::2]):  # each deletion moves the last row
        await archive.delete(content.id)
        if number % 7 == 0:
            assert _holds(archive.folder, content.embedding.vector) == []
    await archive.check()


async def test_what_an_approximate_index_has_learned_tells_no_single_vector(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", 100, recall=0.0)
    await archive.open()
    # Hermits, and a crowd of equals: k-means gives each of them a centroid of its own.
    vectors = [*neighbourhoods(30, 3, groups=10**5), *[neighbourhoods(1, 4, groups=10**5)[0]] * 20]
    contents = contents_of(400)
    for number, vector in enumerate(vectors):
        contents[number] = replace(contents[number], embedding=replace(contents[number].embedding, vector=vector))
    await archive.upsert(contents)
    await built(archive.index)
    await archive.written()
    for number in range(len(vectors)):
        await archive.delete(contents[number].id)
    for vector in vectors:
        assert _holds(archive.folder, vector) == []
    await archive.close()


async def test_what_is_erased_while_a_snapshot_is_written_is_not_in_it(archive: Archive) -> None:
    await archive.upsert(contents_of(6000, 2))
    async with asyncio.timeout(20):
        while (await archive.index.state("image")).snapshot != "writing":
            await asyncio.sleep(0.001)
    gone = [archive.contents[f"2 {number:05}"] for number in range(0, 6000, 500)]
    for content in gone:
        await archive.delete(content.id)
        assert _holds(archive.folder, content.embedding.vector) == []
    await archive.written()
    for content in gone:
        assert _holds(archive.folder, content.embedding.vector) == []


async def test_what_the_store_erased_before_a_crash_is_erased_at_the_start(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    content = archive.contents["1 00123"]
    await archive.store.delete(content.id)  # and the sidecar dies before the index hears of it
    del archive.contents[content.id]
    assert f"{ROWS - 1} contents from its snapshot, 0 from the store" in await _restart(archive, caplog)
    assert _holds(archive.folder, content.embedding.vector) == []


async def test_an_old_snapshot_gives_only_what_is_still_true(
    archive: Archive, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    shutil.copy(archive.file, tmp_path / "old")
    gone = archive.contents["1 00100"]
    await archive.delete(gone.id)
    await archive.upsert([replace(contents_of(1, 5)[0], id="1 00101"), *contents_of(3, 6)])
    await archive.close()
    shutil.copy(tmp_path / "old", archive.file)
    assert f"{ROWS - 2} contents from its snapshot, 4 from the store" in await _start(archive, caplog)
    assert _holds(archive.folder, gone.embedding.vector) == []


async def test_the_same_bytes_under_two_ids(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    twin = replace(archive.contents["1 00100"], id="twin", user="twin")
    await archive.upsert([twin, *contents_of(ROWS, 2)])  # enough for a new snapshot, with both
    await archive.delete("1 00100")
    await _restart(archive, caplog)
    await archive.delete("twin")
    assert _holds(archive.folder, twin.embedding.vector) == []
    await _restart(archive, caplog)


@pytest.mark.parametrize("part", ["all", "header", "half", "last byte", "one byte more"])
async def test_a_snapshot_of_the_wrong_length_is_not_used(
    archive: Archive, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    await archive.close()
    data = archive.file.read_bytes()
    lengths = {"all": 0, "header": 100, "half": len(data) // 2, "last byte": len(data) - 1}
    archive.file.write_bytes(data[: lengths[part]] if part in lengths else data + b"\0")
    assert f"0 contents from its snapshot, {ROWS} from the store" in await _start(archive, caplog)
    assert "cannot be used" in caplog.text


async def test_one_flipped_byte_anywhere_is_noticed(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    data = archive.file.read_bytes()
    places = [0, 9, 12, 40, 4096 + 50, *range(len(data) - 3000, len(data), 571), len(data) - 1]
    for place in places:
        broken = bytearray(data)
        broken[place] ^= 0x10
        archive.file.write_bytes(broken)
        log = await _start(archive, caplog)
        assert f"{ROWS} contents from its snapshot" not in log, place
        assert "damaged" in caplog.text or "cannot be used" in caplog.text or "from the store" in log
        await archive.close()
        archive.file.write_bytes(data)
    assert f"{ROWS} contents from its snapshot, 0" in await _start(archive, caplog)


async def test_a_missing_snapshot_and_a_leftover_of_a_crash(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    await archive.close()
    leftover = archive.file.rename(archive.file.with_suffix(".tmp"))
    assert f"0 contents from its snapshot, {ROWS} from the store" in await _start(archive, caplog)
    if archive.exact_rows < NEVER:
        await built(archive.index)
    await archive.written()
    assert not leftover.exists()


async def test_a_snapshot_of_another_kind_of_index_is_deleted(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    await archive.close()
    if archive.exact_rows == NEVER:
        archive.file.write_bytes(archive.file.read_bytes().replace(b'"float32"', b'"float16"', 1))  # its CRC is wrong
    archive.exact_rows = NEVER
    assert f"0 contents from its snapshot, {ROWS} from the store" in await _start(archive, caplog)


async def test_a_small_collection_has_no_snapshot(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", NEVER, least_rows=101)
    await archive.open()
    await archive.upsert(contents_of(100))
    await archive.close()
    assert not archive.file.exists()


async def test_a_disk_that_takes_no_snapshot_stops_nothing(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (archive.file.stat().st_size, hard))
    try:
        more = contents_of(ROWS, 2)
        await archive.index.upsert(more)
        async with asyncio.timeout(20):
            while "cannot be written" not in caplog.text:
                await asyncio.sleep(0.005)
        while (await archive.index.state("image")).snapshot == "writing":
            await asyncio.sleep(0.005)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(archive.file.parent.glob("*.tmp")) == []
    archive.contents |= {content.id: content for content in more}
    await archive.check()
    await asyncio.gather(*(archive.store.put(content) for content in more))


def test_two_that_are_written_at_once_do_not_share_a_file(tmp_path: Path) -> None:
    disk, path = Disk(), tmp_path / "index-text.snapshot"
    header = Header("model", "text", "exact", "float32", 2048, 0, zlib.crc32(b""))
    given_up, kept = (Snapshot.create(disk, path, header, b"") for _ in range(2))
    for snapshot in (given_up, kept):
        disk.run(lambda snapshot=snapshot: snapshot.finish(path)).result()  # type: ignore[misc]
    assert (given_up.finished, kept.finished) == (True, True)
    assert list(tmp_path.iterdir()) == [path]
    for snapshot in (given_up, kept):
        snapshot.close()
    disk.close()
