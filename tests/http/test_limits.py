"""What a parameter may be, one test a limit, over real HTTP."""

from __future__ import annotations

import asyncio

import pytest

from ..support.sidecar import Sidecar


@pytest.mark.parametrize("content_id", ["a" * 257, "", "a\nb", "a\x00b", "\u2028", ".", ".."])
async def test_a_wrong_id(sidecar: Sidecar, content_id: str) -> None:
    assert (await sidecar.add(content_id, b"text")).error == (400, "invalid_id")


async def test_a_missing_id(sidecar: Sidecar) -> None:
    assert (await sidecar.call("POST", "/add_content?type=text", b"text")).error == (400, "invalid_id")


@pytest.mark.parametrize("user", ["", "u" * 257, "a\tb"])
async def test_a_wrong_user(sidecar: Sidecar, user: str) -> None:
    assert (await sidecar.add("a", b"text", user=user)).error == (400, "invalid_user")
    assert (await sidecar.retrieve(b"text", user=user)).error == (400, "invalid_user")


@pytest.mark.parametrize("query", ["", "type=", "type=video", "type=TEXT"])
async def test_a_wrong_type(sidecar: Sidecar, query: str) -> None:
    assert (await sidecar.call("POST", "/add_content?id=a&" + query, b"text")).error == (400, "invalid_type")
    assert (await sidecar.call("POST", "/retrieve?" + query, b"text")).error == (400, "invalid_type")


@pytest.mark.parametrize("k", ["0", "1001", "abc", "", "-1", "٣", "1.5", "+1"])
async def test_a_wrong_k(sidecar: Sidecar, k: str) -> None:
    assert (await sidecar.retrieve(b"text", k=k)).error == (400, "invalid_k")


async def test_k_is_ten_when_not_said_and_may_pass_the_size_of_the_archive(sidecar: Sidecar) -> None:
    await asyncio.gather(*(sidecar.add(f"id {i}", b"%d" % i) for i in range(12)))
    assert [len(await sidecar.found(b"q", **query)) for query in ({}, {"k": "1"}, {"k": "1000"})] == [10, 1, 12]


async def test_a_wrong_target(sidecar: Sidecar) -> None:
    assert (await sidecar.retrieve(b"text", target="all")).error == (400, "invalid_target")
