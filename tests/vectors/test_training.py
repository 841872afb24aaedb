"""What an approximate index has learned is, and nearly is, no single vector."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from index_sidecar.archive.content import Vector
from index_sidecar.vectors.training import LEAST_ROWS, better_centroids, train

from ..support.snapshots import ROWS, Archive
from ..support.vectors import apart, built, contents_of, neighbourhoods


def _holds(folder: Path, vector: Vector) -> list[str]:
    """Which files other than the store's hold a good part of a vector, as float32 or as float16."""
    forms = [vector.tobytes()[:64], vector.astype(np.float16).tobytes()[:32]]
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a snapshot that was finished meanwhile has its final name
            if not path.name.startswith("contents.sqlite") and any(form in path.read_bytes() for form in forms):
                found.append(path.name)
    return found


async def test_no_vector_is_in_it(archive: Archive) -> None:
    assert stat.S_IMODE(archive.file.stat().st_mode) == 0o600
    assert archive.file.stat().st_size < ROWS * 12 + 200_000
    for content in archive.contents.values():
        assert _holds(archive.folder, content.embedding.vector) == []


async def test_what_an_approximate_index_has_learned_tells_no_single_vector(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", recall=0.0)
    await archive.open()
    # Hermits, and a crowd of equals: k-means gives each of them a centroid of its own.
    vectors = [*apart(30, 3), *[apart(1, 4)[0]] * 20]
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
    rows = apart(1, 4) + np.random.default_rng(1).normal(0, 1e-4, (count, 512))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("count", [1, 2, LEAST_ROWS - 1])
async def test_nothing_is_learned_of_few_contents_however_often_they_come(tmp_path: Path, count: int) -> None:
    archive = Archive(tmp_path / "data", recall=-1.0)
    await archive.open()
    few, contents = apart(count, 3), contents_of(400)
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
    sample = np.concatenate([alike, apart(others, 5)]) if others else alike
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
