"""Filtered searches and pages, the same on every engine: each is compared with the plainest evaluation."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_sidecar.archive.content import CONTENT_TYPES, Content
from index_sidecar.archive.filters import filter_of
from index_sidecar.archive.metadata import Metadata, read_metadata

from ..support.contents import content_of
from ..support.engines import Engine, check, query_of
from ..support.filtering import passes

BIG = 215250709085334181
NAMES = ("a", "b.c", "date")
VALUES: list[Any] = [
    *(0, 1, 1.0, -1.5, 2.5, 1e300, -5e-324, BIG, BIG + 1, (1 << 63) - 1, -(1 << 63), 1 << 32, (1 << 32) - 0.5),
    *(True, False, "", "x", "1", "true", "漢", "a\x00b"),
    *("2026-06-10", "2026-06-10T23:59:59.5", "2026-06-11T01:02+02:00", "2026-06-11T00:00Z", "2026-06-11"),
]
LISTS: list[Any] = [[], ["x"], ["x", "1", "x"], ["2026-06-10"]]
DATES = [each for each in VALUES if isinstance(each, str) and each.startswith("2026")]
NUMBERS = [each for each in VALUES if not isinstance(each, bool | str)]


def _contents() -> list[Content]:
    """Every value under every name, and contents that lack one."""
    contents = []
    for number in range(150):
        metadata: dict[str, Any] = {}
        for step, name in enumerate(NAMES):
            value = [*VALUES, *LISTS, None, None][(number * (step + 1) + 3 * step) % (len(VALUES) + len(LISTS) + 2)]
            if value is not None:
                metadata[name] = value
        user = (None, "ann", "bob")[number % 3]
        content = content_of(f"id {number:03}", b"%d" % number, CONTENT_TYPES[number % 2], user)
        contents.append(replace(content, metadata=metadata, created=1_781_049_600.0 + 3600 * number))
    return contents


CONTENTS = _contents()


def _match(key: str, values: list[Any]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(values).map(lambda value: {"value": value})
    several = st.lists(st.sampled_from(values), max_size=4).map(lambda some: {"any": some})
    return st.one_of(one, several).map(lambda match: {"key": key, "match": match})


def _range(key: str, limits: list[Any]) -> st.SearchStrategy[Any]:
    bounds = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.sampled_from(limits), min_size=1)
    return bounds.map(lambda some: {"key": key, "range": some})


_CONDITIONS = st.one_of(
    *(_match(name, VALUES) for name in (*NAMES, "unused")),
    *(_range(name, limits) for name in NAMES for limits in (NUMBERS, DATES)),
    _match("type", ["text", "image", "x", 1]),
    _match("user", ["ann", "bob", "eve"]),
    _range("created", [1_781_049_600, 1_781_149_600.5, 1_781_049_600.0 + 3600 * 77]),
    _range("created", DATES),
)
_CLAUSES = ("must", "should", "must_not")


def _filter(conditions: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    clauses = {name: st.lists(conditions, max_size=3) for name in _CLAUSES}
    return st.fixed_dictionaries({}, optional=clauses)


_FILTERS = st.recursive(_filter(_CONDITIONS), lambda inner: _filter(st.one_of(_CONDITIONS, inner)), max_leaves=4)


async def _passing(engine: Engine, asked: Any) -> list[str]:
    """The ids on all pages of a filter."""
    found: list[str] = []
    after = None
    while True:
        page = await engine.store.page(None, None, 40, after, filter_of(asked))
        found += [entry.id for entry in page.contents]
        after = page.next
        if after is None:
            return sorted(found)


async def _compare(engine: Engine, contents: list[Content], asked: Any) -> None:
    true = [content for content in contents if passes(content, asked)]
    others = [content for content in contents if not passes(content, asked)]
    assert await _passing(engine, asked) == [content.id for content in true]
    assert await _passing(engine, {"must_not": [asked]}) == [content.id for content in others]
    among = await engine.store.select(filter_of(asked))
    for content_type in CONTENT_TYPES:
        for k, user in ((1, None), (7, "ann"), (1000, None)):
            await check(engine, true, query_of((k, user)), k, content_type, user, among)


async def _filled(engine: Engine, contents: list[Content]) -> None:
    await engine.upsert(contents)


@pytest.mark.hypothesis
def test_any_filter_finds_what_the_plainest_evaluation_finds(engine: Engine, runner: asyncio.Runner) -> None:
    runner.run(_filled(engine, CONTENTS))

    @given(_FILTERS)
    def compare(asked: Any) -> None:
        runner.run(_compare(engine, CONTENTS, asked))

    compare()


_METADATA = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*VALUES, *LISTS]), max_size=3)
_CHANGES = st.lists(st.tuples(st.sampled_from(CONTENTS), st.none() | _METADATA, st.booleans()), min_size=1, max_size=3)


async def _change(
    engine: Engine, truth: dict[str, Content], content: Content, told: Metadata | None, add: bool
) -> None:
    """Erase a content, or give it other metadata; `add`: as a new content under its id, which is another user's."""
    if told is None:
        truth.pop(content.id, None)
        await engine.delete(content.id)
    elif add or content.id not in truth:
        truth[content.id] = replace(content, metadata=told, user="eve")
        await engine.upsert([truth[content.id]])
    else:
        truth[content.id] = replace(truth[content.id], metadata=told)
        assert await engine.store.set_metadata(content.id, told) is not None


async def _compare_after(engine: Engine, asked: Any, changes: list[tuple[Content, Metadata | None, bool]]) -> None:
    truth = {content.id: content for content in CONTENTS}
    for change in changes:
        await _change(engine, truth, *change)
    await _compare(engine, sorted(truth.values(), key=lambda content: content.id), asked)
    await engine.upsert([content for content in CONTENTS if truth.get(content.id) is not content])


@pytest.mark.hypothesis
def test_any_change_counts_at_once_for_a_filter_asked_before_and_after(engine: Engine, runner: asyncio.Runner) -> None:
    runner.run(_filled(engine, CONTENTS))

    @given(_FILTERS, _CHANGES)
    def compare(asked: Any, changes: list[tuple[Content, Metadata | None, bool]]) -> None:
        runner.run(_passing(engine, asked))
        runner.run(_compare_after(engine, asked, changes))

    compare()


async def test_each_value_is_equal_to_itself_and_beside_its_bounds(engine: Engine) -> None:
    await engine.upsert(CONTENTS)
    for each in VALUES:
        await _compare(engine, CONTENTS, {"must": [{"key": "a", "match": {"value": each}}]})
        if not isinstance(each, bool) and each in [*NUMBERS, *DATES]:
            for operator in ("gt", "gte", "lt", "lte"):
                await _compare(engine, CONTENTS, {"must": [{"key": "a", "range": {operator: each}}]})


async def test_empty_clauses_ask_for_nothing_and_an_empty_any_finds_nothing(engine: Engine) -> None:
    await engine.upsert(CONTENTS)
    everything: list[Any] = [{}, {"must": []}, {"should": []}, {"must_not": []}, {"should": [{}]}]
    for asked in everything:
        assert len(await _passing(engine, asked)) == len(CONTENTS)
    assert await _passing(engine, {"must": [{"key": "a", "match": {"any": []}}]}) == []
    assert len(await _passing(engine, {"must_not": [{"key": "a", "match": {"any": []}}]})) == len(CONTENTS)


async def test_metadata_comes_back_as_it_was_and_changes_alone(engine: Engine) -> None:
    await engine.upsert(CONTENTS)
    for content in CONTENTS[:40]:
        found = await engine.store.get(content.id)
        assert found is not None
        assert _plain(found.metadata) == _plain(content.metadata)
    changed: Metadata = {"a": BIG + 2, "new": ["x"]}
    assert await engine.store.set_metadata("id 003", changed) is not None
    assert await engine.store.set_metadata("nothing", changed) is None
    contents = [*CONTENTS[:3], replace(CONTENTS[3], metadata=changed), *CONTENTS[4:]]
    for asked in (
        {"must": [{"key": "new", "match": {"value": "x"}}]},
        {"must": [{"key": "a", "range": {"gt": BIG + 1, "lte": BIG + 2}}]},
        {"must": [{"key": "b.c", "match": {"any": VALUES}}]},
    ):
        await _compare(engine, contents, asked)
    found = await engine.store.get("id 003")
    assert found is not None
    assert (found.metadata, found.sha256, found.created) == (changed, CONTENTS[3].sha256, CONTENTS[3].created)


async def test_what_changes_is_found_as_it_is_from_then_on(engine: Engine) -> None:
    asked = {"must": [{"key": "a", "match": {"value": "x"}}]}
    contents = [replace(each, metadata={"a": "x" if number % 2 else "y"}) for number, each in enumerate(CONTENTS)]
    await engine.upsert(contents)
    await _compare(engine, contents, asked)
    await engine.delete(contents[1].id)
    del contents[1]
    await _compare(engine, contents, asked)
    contents[0] = replace(contents[0], metadata={"a": "x"})
    await engine.upsert(contents[:1])
    await _compare(engine, contents, asked)
    contents[1] = replace(contents[1], metadata={})
    await engine.store.set_metadata(contents[1].id, {})
    await _compare(engine, contents, asked)
    await engine.restart()
    await _compare(engine, contents, asked)


def _plain(metadata: Metadata) -> str:
    """Types as well: 1 is not 1.0 here."""
    return json.dumps(metadata, sort_keys=True)


def test_the_values_tried_are_values_that_metadata_may_have() -> None:
    for content in CONTENTS:
        assert _plain(read_metadata(json.dumps(dict(content.metadata)))) == _plain(content.metadata)
