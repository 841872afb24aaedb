"""One threshold for all directions: relevance does what no cosine can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from index_sidecar.archive.content import CONTENT_TYPES, Content, ContentType
from index_sidecar.archive.relevance import SMALLEST_SAMPLE, Calibrator, calibrate

from ..support.contents import content_of
from ..support.fake_torchserve import PNG
from ..support.sidecar import Sidecar

DIRECTIONS = [(query, content) for query in CONTENT_TYPES for content in CONTENT_TYPES]


def _bytes(theme: int, seed: int, content_type: str) -> bytes:
    return (PNG if content_type == "image" else b"") + b"theme=%d seed=%d" % (theme, seed)


def _sample(content_type: ContentType, count: int = 120) -> list[Content]:
    return [content_of(f"{i}", _bytes(i % 3, i, content_type), content_type) for i in range(count)]


async def _hits(sidecar: Sidecar, query_type: str, content_type: str, **query: str) -> list[Any]:
    hits = []
    for theme in range(3):
        data = _bytes(theme, 999, query_type)
        reply = await sidecar.retrieve(data, query_type, target=content_type, k="1000", **query)
        hits += [{**hit, "match": hit["id"].startswith(f"{theme} ")} for hit in reply.json["contents"]]
    return hits


def _f1(hits: list[Any], keeps: Callable[[Any], bool]) -> float:
    right: float = sum(hit["match"] for hit in hits if keeps(hit))
    return 2 * right / max(1, sum(map(keeps, hits)) + sum(int(hit["match"]) for hit in hits))


async def test_one_min_relevance_serves_all_directions_and_no_min_score_does(sidecar: Sidecar) -> None:
    await asyncio.gather(
        *(sidecar.add(f"{i % 3} {each} {i}", _bytes(i % 3, i, each), each) for i in range(90) for each in CONTENT_TYPES)
    )
    by_relevance = {}
    hits = {}
    for direction in DIRECTIONS:
        hits[direction] = await _hits(sidecar, *direction)
        kept = {hit["id"] for hit in await _hits(sidecar, *direction, min_relevance="0.5")}
        assert kept <= {hit["id"] for hit in hits[direction]}
        by_relevance[direction] = _f1(hits[direction], lambda hit: hit["relevance"] >= 0.5)
    assert min(by_relevance.values()) >= 0.9, by_relevance
    by_score = [
        min(_f1(hits[each], lambda hit, low=low / 100: hit["score"] >= low) for each in DIRECTIONS)  # type: ignore[misc]
        for low in range(-20, 101)
    ]
    print("worst direction: F1", min(by_relevance.values()), "by relevance,", max(by_score), "by the best score")
    assert max(by_score) < 0.9

    mixed = (await sidecar.retrieve(_bytes(0, 999, "text"), k="60", rank="relevance")).json["contents"]
    assert all(hit["id"].startswith("0 ") for hit in mixed)  # all 30 texts and 30 images of the theme
    plain = (await sidecar.retrieve(_bytes(0, 999, "text"), k="60")).json["contents"]
    assert {hit["type"] for hit in plain} == {"text"}  # any text scores above every image
    low = (await sidecar.retrieve(_bytes(0, 999, "text"), k="1000", min_score="0.7")).json["contents"]
    assert low
    assert all(hit["score"] >= 0.7 for hit in low)


async def test_a_small_archive_has_no_relevance(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one")
    (hit,) = (await sidecar.retrieve(b"q", min_relevance="1", rank="relevance")).json["contents"]
    assert hit["relevance"] is None


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"min_score": "1.1"}, "invalid_min_score"),
        ({"min_relevance": "-0.1"}, "invalid_min_relevance"),
        ({"min_relevance": "inf"}, "invalid_min_relevance"),
        ({"rank": "best"}, "invalid_rank"),
    ],
)
async def test_wrong_parameters(sidecar: Sidecar, query: dict[str, str], code: str) -> None:
    assert (await sidecar.retrieve(b"q", **query)).error == (400, code)


def test_relevance_rises_with_the_score_within_its_bounds() -> None:
    calibration = calibrate({"text": _sample("text"), "image": _sample("image")})
    for direction in DIRECTIONS:
        values = [calibration.relevance(score / 100, *direction) for score in range(-100, 101)]
        known = [value for value in values if value is not None]
        assert len(known) == len(values)
        assert known == sorted(known)
        assert 0 <= known[0] < 0.01
        assert 0.99 < known[-1] <= 1
        median = calibration.backgrounds[direction].median
        assert calibration.relevance(median, *direction) == pytest.approx(0.0474, abs=1e-4)


def test_a_direction_without_a_sample_is_unknown() -> None:
    calibration = calibrate({"text": _sample("text"), "image": _sample("image", SMALLEST_SAMPLE - 1)})
    assert set(calibration.backgrounds) == {("text", "text")}
    assert calibration.relevance(0.5, "text", "image") is None


async def test_the_archive_is_measured_again_when_it_has_grown_by_half_and_not_before() -> None:
    asked: list[ContentType] = []

    async def sample(content_type: ContentType, limit: int) -> list[Content]:
        asked.append(content_type)
        return _sample(content_type, min(size, limit))

    calibrator = Calibrator(sample)
    measured = []
    for size in (0, 10, 49, 50, 60, 75, 76, 100, 114, 115, 70, 49, 10):
        before = len(asked)
        await calibrator.current(dict.fromkeys(CONTENT_TYPES, size))
        if len(asked) > before:
            measured.append(size)
    assert measured == [50, 76, 115, 70, 49]
