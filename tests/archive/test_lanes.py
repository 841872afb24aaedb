"""The queue in front of the model: who goes first, who is refused, and who is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from index_sidecar.archive.content import ContentType, Embedding
from index_sidecar.archive.errors import InvalidInput, Overloaded
from index_sidecar.archive.lanes import Lane, Lanes

from ..support.virtual_time import now, passes_at_once


class SlowModel:
    """Computes one content after the other, in the order it was given them, each in its time."""

    def __init__(self, text_s: float = 0.005, image_s: float = 0.02) -> None:
        self.seconds = {"text": text_s, "image": image_s}
        self._one_at_a_time = asyncio.Lock()
        self.given = 0
        self.most_given = 0
        self.asked: list[bytes] = []

    def tired(self) -> bool:
        return len(self.asked) >= 200

    def answers(self) -> bool:
        return True

    async def embed(self, data: bytes, content_type: ContentType, aside: Callable[[], None] | None = None) -> Embedding:
        self.asked.append(data)
        self.given += 1
        self.most_given = max(self.most_given, self.given)
        try:
            async with self._one_at_a_time:
                await asyncio.sleep(self.seconds[content_type])
        finally:
            self.given -= 1
        if data == b"broken":
            raise InvalidInput("broken")
        return Embedding(np.zeros(512, np.float32), "model")


@passes_at_once
async def test_searches_do_not_queue_behind_an_import() -> None:
    model = SlowModel()
    lanes = Lanes(model, queue_s=30)
    await lanes.embed(b"a search of late", "text", Lane.SEARCH)
    importing = [asyncio.create_task(lanes.embed(b"%d" % n, "image", Lane.ADD)) for n in range(100)]
    waits = []
    for n in range(10):
        await asyncio.sleep(0.02)
        began = now()
        await lanes.embed(b"search %d" % n, "text", Lane.SEARCH)
        waits.append(now() - began)
    assert not all(task.done() for task in importing)
    assert sorted(waits)[5] < 0.3  # four pictures are ahead, not a hundred: they would take 2 s
    await asyncio.gather(*importing)


@passes_at_once
async def test_an_import_alone_has_the_model_to_itself() -> None:
    model = SlowModel(image_s=0.001)
    lanes = Lanes(model, queue_s=30)
    await asyncio.gather(*(lanes.embed(b"%d" % n, "image", Lane.ADD) for n in range(100)))
    assert model.most_given == 32  # a full batch, and one to follow


@passes_at_once
async def test_who_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back() -> None:
    model = SlowModel(text_s=0.01)
    lanes = Lanes(model, queue_s=1.0)
    first = [asyncio.create_task(lanes.embed(b"%d" % n, "text", Lane.SEARCH)) for n in range(256 + 80)]
    await asyncio.sleep(0.7)  # long enough to know the model's speed: 100 a second
    began = now()
    with pytest.raises(Overloaded) as refused:
        await lanes.embed(b"one more", "text", Lane.SEARCH)
    assert now() - began < 0.1
    assert 2 <= refused.value.retry_after_s <= 6
    outcomes = await asyncio.gather(*first, return_exceptions=True)
    assert all(isinstance(each, Embedding | Overloaded) for each in outcomes)
    assert b"one more" not in model.asked


@passes_at_once
async def test_nobody_waits_longer_than_promised() -> None:
    model = SlowModel(text_s=10)
    lanes = Lanes(model, queue_s=0.2)
    under_way = [asyncio.create_task(lanes.embed(b"%d" % n, "text", Lane.SEARCH)) for n in range(256)]
    await asyncio.sleep(0)
    began = now()
    with pytest.raises(Overloaded):
        await lanes.embed(b"late", "text", Lane.SEARCH)
    assert 0.2 <= now() - began < 0.5
    await asyncio.sleep(0.01)
    assert lanes.depth(Lane.SEARCH) == 0  # nor did those before it
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


@passes_at_once
async def test_who_has_left_does_not_reach_the_model() -> None:
    model = SlowModel(image_s=0.05)
    lanes = Lanes(model, queue_s=30)
    await lanes.embed(b"a search", "text", Lane.SEARCH)
    tasks = [asyncio.create_task(lanes.embed(b"%d" % n, "image", Lane.ADD)) for n in range(10)]
    await asyncio.sleep(0.01)
    for task in tasks[4:9]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, Embedding) for each in outcomes] == [True] * 4 + [False] * 5 + [True]
    assert model.asked == [b"a search", b"0", b"1", b"2", b"3", b"9"]


@passes_at_once
async def test_who_leaves_in_the_moment_of_their_turn_takes_nobodys_place() -> None:
    class Model(SlowModel):
        done = asyncio.Event()

        async def embed(
            self, data: bytes, content_type: ContentType, aside: Callable[[], None] | None = None
        ) -> Embedding:
            if data == b"held":
                await self.done.wait()
                return Embedding(np.zeros(512, np.float32), "model")
            return await super().embed(data, content_type)

    model = Model(text_s=0.0)
    lanes = Lanes(model, queue_s=60)  # nothing here waits in vain
    for _ in range(5):  # more places than there are
        model.done.clear()
        held = [asyncio.create_task(lanes.embed(b"held", "text", Lane.SEARCH)) for _ in range(256)]
        waiting = [asyncio.create_task(lanes.embed(b"waits", "text", Lane.SEARCH)) for _ in range(256)]
        await asyncio.sleep(0.01)
        model.done.set()
        for task in waiting:
            task.cancel()
        outcomes = await asyncio.gather(*held, *waiting, return_exceptions=True)
        assert {type(each) for each in outcomes} == {Embedding, asyncio.CancelledError}
    assert (await lanes.embed(b"one more", "text", Lane.SEARCH)).fingerprint == "model"
    assert [lanes.depth(lane) for lane in Lane] == [0, 0]


@passes_at_once
async def test_a_slow_model_is_given_no_more_than_it_can_do_in_time() -> None:
    model = SlowModel(text_s=0.02)
    lanes = Lanes(model, queue_s=0.5)
    outcomes = []

    async def ask(number: int) -> None:
        while not model.tired():
            began = now()
            try:
                await lanes.embed(b"%d" % number, "text", Lane.SEARCH)
                outcomes.append(now() - began)
            except Overloaded:
                await asyncio.sleep(0.2)

    await asyncio.gather(*(ask(number) for number in range(400)))
    assert max(outcomes[100:]) < 0.5 + 1.0  # its queue, and what was under way: it could do 256 in 5 s only


@passes_at_once
async def test_places_are_given_back_whatever_happens() -> None:
    model = SlowModel(text_s=0.001)
    lanes = Lanes(model, queue_s=30)
    rng = np.random.default_rng(1)
    for _ in range(20):
        tasks = [asyncio.create_task(lanes.embed(b"broken", "text", lane)) for lane in Lane for _ in range(50)]
        await asyncio.sleep(0.002)
        for number in rng.choice(len(tasks), 30, replace=False):
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (await lanes.embed(b"sound", "text", Lane.ADD)).fingerprint == "model"
    assert [lanes.depth(lane) for lane in Lane] == [0, 0]


@passes_at_once
async def test_one_slow_answer_does_not_have_a_burst_refused() -> None:
    """A model that is given one content at a time does not show how many it can do."""
    model = SlowModel(image_s=0.7)
    lanes = Lanes(model, queue_s=2)
    await lanes.embed(b"a large one", "image", Lane.ADD)
    model.seconds["image"] = 0.01
    outcomes = await _all(lanes, 40, "image", Lane.ADD)
    assert [type(outcome) for outcome in outcomes] == [Embedding] * 40


async def test_an_old_speed_has_nobody_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index_sidecar.archive.lanes._KNOWN_S", 0.3)
    model = SlowModel(text_s=0.05)
    lanes = Lanes(model, queue_s=2)
    await _all(lanes, 100, "text", Lane.SEARCH)
    model.seconds["text"] = 0.001  # the machine had been lent to others, and is ours again
    await asyncio.sleep(0.4)
    outcomes = await _all(lanes, 100, "text", Lane.SEARCH)
    assert [type(outcome) for outcome in outcomes] == [Embedding] * 100


async def _all(lanes: Lanes, count: int, content_type: ContentType, lane: Lane) -> list[Embedding | BaseException]:
    asked = (lanes.embed(b"%d" % number, content_type, lane) for number in range(count))
    return await asyncio.gather(*asked, return_exceptions=True)


@passes_at_once
async def test_what_the_model_puts_aside_is_in_nobodys_way() -> None:
    """Large pictures that are decoded for seconds, while the model has time for all else."""

    class Model(SlowModel):
        async def embed(
            self, data: bytes, content_type: ContentType, aside: Callable[[], None] | None = None
        ) -> Embedding:
            if content_type == "image":
                await asyncio.sleep(0.02)
                assert aside is not None
                aside()
                await asyncio.sleep(1.5)
            return await super().embed(data, content_type)

    lanes = Lanes(Model(), queue_s=1)  # one after the other, they are given it in 0.8 s
    await _all(lanes, 60, "text", Lane.SEARCH)
    large = asyncio.create_task(_all(lanes, 40, "image", Lane.ADD))
    waits: list[float] = []
    while not large.done():
        began = now()
        await lanes.embed(b"neighbour %d" % len(waits), "text", Lane.SEARCH)
        waits.append(now() - began)
        await asyncio.sleep(0.05)
    assert sorted(waits)[len(waits) // 2] < 0.2
    assert [type(outcome) for outcome in await large] == [Embedding] * 40
    assert [lanes.depth(lane) for lane in Lane] == [0, 0]
    assert lanes._given == sum(lanes._under_way.values()) == 0
