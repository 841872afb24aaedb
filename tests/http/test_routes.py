"""What holds for every call over real HTTP: errors, request ids, health, and how it is searched."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from index_sidecar import __version__
from index_sidecar.settings import Settings

from ..support.fake_torchserve import FINGERPRINT, PNG, SECRET, Failure, FakeTorchServe
from ..support.sidecar import Sidecar, running


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", "/nothing", (404, "not_found")),
        ("GET", "/contents/", (404, "not_found")),
        ("POST", "/mv_retrieval/v0.2/add_content", (404, "not_found")),
        ("GET", "/add_content", (405, "method_not_allowed")),
        ("DELETE", "/retrieve", (405, "method_not_allowed")),
        ("PUT", "/contents/a", (405, "method_not_allowed")),
    ],
)
async def test_what_is_no_call_of_ours(sidecar: Sidecar, method: str, path: str, error: tuple[int, str]) -> None:
    reply = await sidecar.call(method, path)
    assert reply.error == error
    assert ("Allow" in reply.headers) == (error[0] == 405)


@pytest.mark.parametrize(
    ("failure", "code", "retry_after"),
    [
        ("queue_full", "overloaded", "1"),
        ("internal_500", "embedder_unavailable", "5"),
        ("internal_503", "embedder_unavailable", "5"),
        ("hang", "embedder_unavailable", "5"),
        ("disconnect", "embedder_unavailable", "5"),
        ("nan", "embedder_unavailable", "5"),
    ],
)
async def test_what_torchserve_cannot_do_is_a_503_that_says_when_to_come_back(
    sidecar: Sidecar, fake: FakeTorchServe, failure: Failure, code: str, retry_after: str
) -> None:
    fake.failure = failure
    replies = await asyncio.gather(sidecar.add("a", b"text"), sidecar.retrieve(b"text"))
    for reply in replies:
        assert reply.error == (503, code)
        assert reply.headers["Retry-After"] == retry_after
        assert SECRET not in str(reply)
    assert (await sidecar.call("GET", "/contents/a")).status == 404
    fake.failure = None
    assert (await sidecar.add("a", b"text")).status == 201


async def test_another_model_at_run_time_is_refused(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    await sidecar.add("a", b"one")
    fake.fingerprint = other = "clip-vit-b-32:openai:fedcba9876543210:p1"
    for reply in (await sidecar.add("b", b"two"), await sidecar.retrieve(b"two")):
        assert reply.error == (503, "model_mismatch")
        assert reply.headers["Retry-After"] == "60"
        assert FINGERPRINT in reply.json["error"]["message"]
        assert other in reply.json["error"]["message"]
    fake.fingerprint = FINGERPRINT
    assert await sidecar.found(b"two") == ["a"]


async def test_an_empty_archive_takes_any_model(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    fake.fingerprint = other = "clip-vit-b-32:openai:fedcba9876543210:p1"
    assert (await sidecar.add("a", b"one")).status == 201
    health = (await sidecar.call("GET", "/health")).json
    assert (health["model"], health["weights"]) == (other, "openai")


@pytest.mark.parametrize("given", ["abc-123", "x" * 128, "!~"])
async def test_a_safe_request_id_is_kept_and_handed_on(sidecar: Sidecar, fake: FakeTorchServe, given: str) -> None:
    params = {"id": "a", "type": "text"}
    reply = await sidecar.call("POST", "/add_content", b"text", params=params, headers={"X-Request-ID": given})
    assert reply.headers["X-Request-ID"] == given
    assert fake.requests[-1].request_id == given
    reply = await sidecar.call("GET", "/nowhere", headers={"X-Request-ID": given})
    assert reply.error == (404, "not_found")
    assert reply.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "two words", "ü", "x" * 129, "a\tb"])
async def test_an_unsafe_request_id_is_replaced(sidecar: Sidecar, given: str) -> None:
    reply = await sidecar.call("GET", "/nowhere", headers={"X-Request-ID": given})
    assert reply.error == (404, "not_found")
    assert reply.headers["X-Request-ID"] != given
    assert len(reply.headers["X-Request-ID"]) == 32


async def test_health(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one")
    await sidecar.add("b", PNG, "image")
    assert (await sidecar.call("GET", "/health")).json == {
        "status": "ok",
        "version": __version__,
        "ready": True,
        "storage": "available",
        "embedder": "available",
        "model": FINGERPRINT,
        "weights": "untrained",
        "contents": {"text": 1, "image": 1},
        "erasures_due": 0,
    }
    assert (await sidecar.call("GET", "/ready")).json == {"status": "ready"}


async def test_index(settings: Settings) -> None:
    async with running(replace(settings, index_dtype="float16")) as sidecar:
        await sidecar.add("a", b"one")
        reply = await sidecar.call("GET", "/index")
    rest = {"nprobe": None, "recall": None, "build": None, "snapshot": "none"}
    assert (reply.status, reply.json) == (
        200,
        {
            "text": {"kind": "exact", "size": 1, "memory_bytes": 1024, **rest},
            "image": {"kind": "exact", "size": 0, "memory_bytes": 0, **rest},
        },
    )


async def test_past_its_size_the_index_is_approximate_also_after_a_restart(settings: Settings) -> None:
    # Vectors of the fake model have no neighbourhoods: that anything is found by lists takes a modest target.
    settings = replace(settings, index_exact_rows=300, index_recall=0.05)
    async with running(settings) as sidecar:
        await asyncio.gather(*(sidecar.add(f"id {number}", b"text %d" % number) for number in range(400)))
        async with asyncio.timeout(60):
            done = {"kind": "approximate", "size": 400, "build": None, "snapshot": "written"}
            while not (state := (await sidecar.call("GET", "/index")).json["text"]).items() >= done.items():
                await asyncio.sleep(0.01)
        assert state["recall"]["text->text"] >= 0.05
    async with running(settings) as sidecar:
        assert (await sidecar.call("GET", "/index")).json["text"] == state
        for number in range(0, 400, 40):
            assert await sidecar.found(b"text %d" % number, k="1") == [f"id {number}"]
        await sidecar.call("DELETE", "/contents/id%200")
        assert "id 0" not in await sidecar.found(b"text 0", k="400")
