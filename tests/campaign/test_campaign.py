"""The campaign in its short form: `make campaign` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import faults, kills, overload, soak, sockets
from .findings import Row

pytestmark = pytest.mark.servers


def _tell() -> None:
    """No bar."""


def _check(row: Row | None) -> None:
    if row is None:
        pytest.skip("libfaketime is not installed")
    print(row.as_json())
    assert row.findings.none(), row.findings
    assert row.cases


async def test_what_was_acknowledged_survives_any_kill(tmp_path: Path) -> None:
    row = await kills.kill_sidecar(tmp_path / "bench", 25, 9, _tell)
    _check(row)
    cut = row.figures["rounds that cut requests"]
    assert isinstance(cut, int)
    assert cut >= 20, "most rounds ended before the kill: they have shown nothing"


async def test_a_model_that_is_killed_comes_back_with_another_key(tmp_path: Path) -> None:
    _check(await kills.kill_torchserve(tmp_path / "bench", 2, 9, _tell))


async def test_no_failure_of_the_model_brings_in_a_wrong_vector(tmp_path: Path) -> None:
    rows = await faults.model(tmp_path / "bench", 1, 0.3, 9, _tell)
    assert len(rows) == len(faults.MODEL_FAULTS)
    for row in rows:
        _check(row)


async def test_a_foreign_reader_holds_nobody_up(tmp_path: Path) -> None:
    _check(await faults.foreign_reader(tmp_path / "bench", 1, 2.0, 9, _tell))


async def test_a_disk_fills_up_under_load(tmp_path: Path) -> None:
    _check(await faults.full_disk(tmp_path / "bench", 1, 9, _tell))


async def test_the_clock_jumps_under_load(tmp_path: Path) -> None:
    _check(await faults.clock(tmp_path / "bench", 6, 9, _tell))


async def test_a_second_sidecar_ends_and_the_first_goes_on(tmp_path: Path) -> None:
    _check(await faults.second_sidecar(tmp_path / "bench", 1, 9, _tell))


async def test_every_accepted_request_is_answered_after_sigterm(tmp_path: Path) -> None:
    _check(await faults.terminated(tmp_path / "bench", 2, 9, _tell))


async def test_ten_times_the_capacity_costs_no_goodput_and_no_patience(tmp_path: Path) -> None:
    _check(await overload.overload(tmp_path / "bench", "open", 10, 5.0, _tell))


async def test_an_import_of_pictures_leaves_searches_their_time(tmp_path: Path) -> None:
    _check(await overload.import_and_search(tmp_path / "bench", 60, _tell))


async def test_slow_and_silent_clients_cost_nobody_else_anything(tmp_path: Path) -> None:
    names = ["announce a body and send none", "close their half after the request"]
    for row in await sockets.crowd(tmp_path / "bench", 500, names, _tell):
        _check(row)


async def test_requests_in_one_packet_are_answered_in_order(tmp_path: Path) -> None:
    _check(await sockets.pipelined(tmp_path / "bench", 1, _tell))


async def test_nothing_grows_under_load_and_faults(tmp_path: Path) -> None:
    _check(await soak.soak(tmp_path / "bench", 20.0, 4.5, 9, _tell))
