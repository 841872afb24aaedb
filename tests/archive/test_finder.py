"""Pages and folding, against what one gets by comparing everything with everything."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_sidecar.archive.content import CONTENT_TYPES, Content, ContentType, Embedding, Hit, Vector, digest
from index_sidecar.archive.errors import InvalidInput
from index_sidecar.archive.filters import filter_of
from index_sidecar.archive.finder import Asked, Finder
from index_sidecar.archive.relevance import Calibration
from index_sidecar.archive.search import DEPTH, Search
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex

from ..support.fake_torchserve import FINGERPRINT
from ..support.fake_vectors import vector_of


async def _no_calibration() -> Calibration:
    return Calibration()


class _Archive:
    """A store, an index and what finds in them."""

    def __init__(self, folder: Path, exact_rows: int = 10**9) -> None:
        self.store = SqliteStore(folder / "contents.sqlite")
        self.index = FaissIndex(folder, "float32", exact_rows, -1.0)
        self.finder = Finder(self.store, self.index, _no_calibration, 10.0)

    async def fill(self, contents: Sequence[Content]) -> None:
        await asyncio.gather(*(self.store.put(each) for each in contents))
        await self.index.load(self.store)

    async def close(self) -> None:
        await self.index.close()
        await self.store.close()


def _content(number: int, group: int, copy: str, content_type: ContentType) -> Content:
    """One of a group: the same bytes as another, nearly its vector, or a stranger."""
    data = b"group %d" % group if copy == "bytes" else b"group %d, number %d" % (group, number)
    vector = vector_of(b"group %d" % group, content_type)
    if copy == "near":
        vector = vector + 0.1 * vector_of(b"noise %d" % number, content_type)  # cosine 0.995 to the group's
    if copy == "far":
        vector = vector_of(data, content_type)
    unit = (vector / np.linalg.norm(vector)).astype(np.float32)
    return Content(f"id {number:04}", content_type, None, digest(data), 1e9 + number % 7, Embedding(unit, FINGERPRINT))


CONTENTS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["bytes", "near", "far"]), st.sampled_from(CONTENT_TYPES)),
    min_size=1,
    max_size=60,
).map(lambda made: [_content(number, *each) for number, each in enumerate(made)])


def _score(content: Content, query: Vector) -> float:
    exact = content.embedding.vector.astype(np.float64) @ query.astype(np.float64)
    return min(float(np.round(exact, 6)), 1.0)


def _by_brute_force(contents: Sequence[Content], query: Vector, search: Search) -> list[str]:
    best = sorted((c for c in contents if c.type in search.types), key=lambda c: (-_score(c, query), c.id))
    if search.min_score is not None:
        best = [each for each in best if _score(each, query) >= (search.min_score or 0.0)]
    if search.fold:
        leaders: list[Content] = []
        for each in best:
            if not any(_is_copy(each, leader) for leader in leaders):
                leaders.append(each)
        best = leaders
    if search.order == "newest":
        best.sort(key=lambda content: (-content.created, content.id))
    return [each.id for each in best][search.offset : search.end]


def _is_copy(one: Content, other: Content) -> bool:
    near = float(one.embedding.vector @ other.embedding.vector) >= 0.97
    return one.type == other.type and (one.sha256 == other.sha256 or near)


@given(
    contents=CONTENTS,
    search=st.builds(
        Search,
        k=st.integers(1, 20),
        offset=st.integers(0, 40),
        target=st.sampled_from(["any", "text", "image"]),
        fold=st.booleans(),
        order=st.sampled_from(["best", "newest"]),
        min_score=st.floats(-0.2, 0.2),
    ),
)
def test_a_page_is_what_comparing_everything_gives(contents: list[Content], search: Search) -> None:
    query = vector_of(b"group 0", "text")

    async def check(folder: Path) -> None:
        archive = _Archive(folder)
        await archive.fill(contents)
        hits = await archive.finder.find(Asked(query, "text"), search)
        assert [hit.id for hit in hits] == _by_brute_force(contents, query, search)
        by_id = {content.id: content for content in contents}
        for hit in hits:
            assert (hit.duplicates is not None) <= search.fold
            if hit.duplicates is not None:
                assert hit.duplicates.count == len(hit.duplicates.ids) >= 1  # no group of one is marked
                assert all(_is_copy(by_id[hit.id], by_id[each]) for each in hit.duplicates.ids)
        await archive.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))


async def _ids(archive: _Archive, **search: object) -> list[str]:
    asked = Asked(vector_of(b"query", "text"), "text")
    return [hit.id for hit in await archive.finder.find(asked, Search(**search))]  # type: ignore[arg-type]


async def test_twenty_of_a_hundred_groups_of_near_copies_are_twenty(tmp_path: Path) -> None:
    archive = _Archive(tmp_path)
    contents = [_content(number, number % 100, "near", "text") for number in range(1000)]
    await archive.fill(contents)
    pages = [await _ids(archive, k=20, offset=offset, fold=True, target="text") for offset in range(0, 120, 20)]
    assert [len(page) for page in pages] == [20] * 5 + [0]
    shown = [each for page in pages for each in page]
    assert len({int(each.split()[1]) % 100 for each in shown}) == 100  # one of each group, on one page
    first = shown[0]
    await archive.store.delete(first)
    await archive.index.delete([first])
    after = (await _ids(archive, k=1, fold=True, target="text"))[0]
    assert after != first
    assert int(after.split()[1]) % 100 == int(first.split()[1]) % 100  # the next one of the group speaks for it
    await archive.close()


async def test_equal_scores_are_paged_by_id(tmp_path: Path) -> None:
    archive = _Archive(tmp_path)
    await archive.fill([_content(number, 1, "bytes", "text") for number in range(50)])
    pages = [await _ids(archive, k=10, offset=offset) for offset in range(0, 60, 10)]
    assert [each for page in pages for each in page] == [f"id {number:04}" for number in range(50)]
    await archive.close()


@pytest.mark.parametrize("exact_rows", [10**9, 0], ids=["exact", "approximate"])
async def test_the_first_of_many_are_the_many_of_few(tmp_path: Path, exact_rows: int) -> None:
    archive = _Archive(tmp_path, exact_rows)
    await archive.fill([_content(number, number, "far", "text") for number in range(4000)])
    async with asyncio.timeout(60):
        while exact_rows == 0 and (await archive.index.state("text")).kind != "approximate":
            await asyncio.sleep(0.05)
    deepest = await _ids(archive, k=1000, offset=0, target="text")
    assert len(set(deepest)) == 1000
    for k in (1, 5, 15, 16, 17, 100, 128, 129, 500):
        answers = await asyncio.gather(*(_ids(archive, k=each, target="text") for each in (k, 1000, k)))
        assert answers == [deepest[:k], deepest, deepest[:k]], k
        assert await _ids(archive, k=10, offset=k, target="text") == deepest[k : k + 10]
    await archive.close()


@pytest.mark.parametrize("exact_rows", [10**9, 0], ids=["exact", "approximate"])
@pytest.mark.parametrize("part", [2, 40], ids=["many pass", "few pass"])
@pytest.mark.parametrize("fold", [False, True], ids=["", "folded"])
async def test_so_they_are_among_what_passes_a_filter(tmp_path: Path, exact_rows: int, part: int, fold: bool) -> None:
    archive = _Archive(tmp_path, exact_rows)
    contents = [_content(number, number % 1600, "near", "text") for number in range(2400)]
    contents = [replace(each, metadata={"number": number % part}) for number, each in enumerate(contents)]
    await archive.fill(contents)
    async with asyncio.timeout(60):
        while exact_rows == 0 and (await archive.index.state("text")).kind != "approximate":
            await asyncio.sleep(0.05)
    chosen = filter_of({"must": [{"key": "number", "match": {"value": 1}}]})
    deepest = await _ids(archive, k=1000, target="text", fold=fold, filter=chosen)
    passing = [content for content in contents if content.metadata["number"] == 1]
    groups = len({int(content.id.split()[1]) % 1600 for content in passing})
    assert len(set(deepest)) == len(deepest) == min(1000, groups if fold else len(passing))
    assert set(deepest) <= {content.id for content in passing}
    for k in (5, 15, 16, 17, 129, 500):
        assert await _ids(archive, k=k, target="text", fold=fold, filter=chosen) == deepest[:k], k
        page = await _ids(archive, k=10, offset=k, target="text", fold=fold, filter=chosen)
        assert page == deepest[k : k + 10], k
    await archive.close()


def test_nobody_looks_behind_the_depth() -> None:
    assert Search(k=1, offset=DEPTH - 1).end == DEPTH
    with pytest.raises(InvalidInput, match="10,000 hits deep") as caught:
        Search(k=2, offset=DEPTH - 1)
    assert caught.value.code == "invalid_offset"


def test_newest_needs_a_bar() -> None:
    with pytest.raises(InvalidInput, match="min_relevance") as caught:
        Search(order="newest")
    assert caught.value.code == "invalid_order"


async def test_hidden_ids_cost_no_place(tmp_path: Path) -> None:
    archive = _Archive(tmp_path)
    await archive.fill([_content(number, number, "far", "text") for number in range(40)])
    asked = Asked(vector_of(b"query", "text"), "text")
    all_of_them: list[Hit] = await archive.finder.find(asked, Search(k=40))
    hidden = {hit.id for hit in all_of_them[:16:2]}
    found = await archive.finder.find(replace(asked, hidden=hidden), Search(k=16))
    assert [hit.id for hit in found] == [hit.id for hit in all_of_them if hit.id not in hidden][:16]
    await archive.close()
