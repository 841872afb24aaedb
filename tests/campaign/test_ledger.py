"""The model of what was acknowledged allows what may be, and nothing else."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from ..support.sidecar import AUTHORIZATION
from .ledger import Ledger, State
from .servers import bench

A, B = State("text", "ada", b"a"), State("text", "bob", b"b")


def test_what_was_acknowledged_is_certain_and_what_was_not_is_open() -> None:
    ledger = Ledger(["x", "y"])
    ledger.end(ledger.put("x", A), "done")
    assert ledger.possible("x") == {A}
    ledger.end(ledger.put("x", B), "unknown")
    assert ledger.possible("x") == {A, B}
    ledger.end(ledger.put("y", B), "refused")
    assert ledger.possible("y") == {None}
    ledger.end(ledger.delete("x"), "done")
    assert ledger.possible("x") == {None}


def test_what_overlaps_may_have_come_in_any_order() -> None:
    ledger = Ledger(["x"])
    first, second = ledger.put("x", A), ledger.put("x", B)
    assert ledger.possible("x") == {None, A, B}
    ledger.end(first, "done")
    ledger.end(second, "done")
    assert ledger.possible("x") == {A, B}
    ledger.observed("x", B)
    deleting, putting = ledger.delete_user("bob"), ledger.put("x", A)
    ledger.end(deleting, "done")
    ledger.end(putting, "done")
    assert ledger.possible("x") == {A}  # Bob's deletion cannot have taken what is Ada's


def test_a_version_changes_with_what_can_change_the_state_only() -> None:
    ledger = Ledger(["x"])
    ledger.end(ledger.put("x", A), "done")
    version = ledger.version("x")
    ledger.end(ledger.delete_user("bob"), "done")
    assert ledger.version("x") == version
    ledger.end(ledger.delete_user("ada"), "done")
    assert ledger.version("x") > version


@pytest.mark.servers
async def test_the_comparison_sees_what_somebody_changes_behind_its_back(tmp_path: Path) -> None:
    async with bench(tmp_path / "bench") as it, aiohttp.ClientSession(headers=AUTHORIZATION) as session:
        load = it.load(pause_s=0.001)
        async with load:
            while it.ledger.acknowledged < 150:
                await load.answered()
        await it.compare(files=True)
        it.findings.add(load.findings)
        assert it.findings.none(), it.findings
        held = [each for each in it.ledger.ids if None not in it.ledger.possible(each)]
        gone = [each for each in it.ledger.ids if it.ledger.possible(each) == {None}]
        (state,) = it.ledger.possible(held[0])
        assert state is not None
        other = {"text": "image", "image": "text"}[state.type]
        for method, path, params, data in (
            ("DELETE", "/contents", {"id": held[1]}, None),
            ("POST", "/add_content", {"id": gone[0], "type": "text"}, b"back again"),
            ("POST", "/add_content", {"id": held[0], "type": other}, b"\x89PNG\r\n\x1a\n" + b"another"),
        ):
            async with session.request(method, it.url + path, params=params, data=data) as response:
                assert response.status in (200, 201, 204)
        await it.compare()
        assert [len(each) > 0 for each in (it.findings.lost, it.findings.wrong, it.findings.leaked)] == [True] * 3
