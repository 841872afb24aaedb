"""What the campaign consists of: parts, each of some cases that can be run alone, each of which gives rows."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import faults, kills, overload, real, soak, sockets
from .findings import Row

Tell = Callable[[], None]
Case = Callable[[argparse.Namespace, Path, Tell], Awaitable[Row | list[Row] | None]]
"""Options, an empty folder, and what is called as it goes on -> the rows; None where this machine cannot do it."""


@dataclass(frozen=True)
class Part:
    """Cases, and the options that they heed."""

    cases: Mapping[str, Case]
    options: tuple[str, ...] = ()


def _tested(fault: str, *tests: str) -> Case:
    """A case whose tests stand elsewhere."""
    return lambda _, __, tell: faults.tested(fault, tests, tell)


_FAULTS: dict[str, Case] = {
    "model": lambda it, folder, tell: faults.model(folder, it.rounds, 1.0, it.seed, tell),
    "reader": lambda it, folder, tell: faults.foreign_reader(folder, 1, it.reader_s, it.seed, tell),
    "disk": lambda it, folder, tell: faults.full_disk(folder, it.rounds, it.seed, tell),
    "second": lambda it, folder, tell: faults.second_sidecar(folder, it.rounds, it.seed, tell),
    "sigterm": lambda it, folder, tell: faults.terminated(folder, 5 * it.rounds, it.seed, tell),
    "clock": lambda it, folder, tell: faults.clock(folder, 10 * it.rounds, it.seed, tell),
    "read-only": _tested(
        "the disk becomes read-only",
        "tests/sqlite/test_damage.py::test_a_read_only_disk_is_told_in_one_line",
        "tests/sqlite/test_damage.py::test_a_file_that_becomes_read_only_refuses_writes_and_serves_reads",
    ),
    "damage": _tested(
        "pages of the database are damaged, or its file is moved away",
        "tests/sqlite/test_damage.py::test_damage_under_a_running_store_is_told_as_503",
        "tests/sqlite/test_damage.py::test_over_http_a_lost_file_is_no_500_and_everybody_hears_of_it",
        "tests/sqlite/test_damage.py::test_a_file_that_vanishes_is_noticed",
        "tests/sqlite/test_damage.py::test_a_damaged_database_ends_the_start_with_the_way_out",
        "tests/sqlite/test_damage.py::test_a_damaged_database_that_opens_is_told_by_those_who_read_it_whole",
    ),
    "hangs": _tested(
        "a write hangs, also when the process is told to end",
        "tests/archive/test_writes.py::test_a_write_that_hangs_is_told_in_time_and_done_in_store_and_index",
        "tests/archive/test_writes.py::test_nobody_waits_for_a_turn_without_limit",
        "tests/test_app.py::test_a_write_that_hangs_does_not_keep_the_process",
    ),
    "qdrant": _tested(
        "a node of Qdrant's vanishes, hangs, or is killed: three nodes, two copies",
        "tests/qdrant/test_vanished_node.py",
        "tests/qdrant/test_cluster.py::test_a_node_is_killed_under_load_and_comes_back",
        "tests/qdrant/test_cluster.py::test_a_node_that_hangs_holds_nobody_up_for_long",
    ),
}

_OVERLOAD: dict[str, Case] = {
    "closed-10": lambda it, folder, tell: overload.overload(folder, "closed", 10, it.overload_s, tell),
    "closed-30": lambda it, folder, tell: overload.overload(folder, "closed", 30, it.overload_s, tell),
    "open-10": lambda it, folder, tell: overload.overload(folder, "open", 10, it.overload_s, tell),
    "open-30": lambda it, folder, tell: overload.overload(folder, "open", 30, it.overload_s, tell),
}

PARTS: dict[str, Part] = {
    "kills": Part(
        {
            "sidecar": lambda it, folder, tell: kills.kill_sidecar(
                folder, it.kills, it.seed, tell, 60 * it.kill_minutes
            ),
            "fake": lambda it, folder, tell: kills.kill_torchserve(folder, max(it.kills // 10, 1), it.seed, tell),
        },
        ("kills", "kill_minutes", "seed"),
    ),
    "faults": Part(_FAULTS, ("rounds", "reader_s", "seed")),
    "overload": Part(_OVERLOAD, ("overload_s",)),
    "sockets": Part(
        {
            "crowd": lambda _, folder, tell: sockets.crowd(folder, 500, list(sockets.ATTACKS), tell),
            "pipelined": lambda _, folder, tell: sockets.pipelined(folder, 10, tell),
        }
    ),
    "soak": Part(
        {"soak": lambda it, folder, tell: soak.soak(folder, 60 * it.minutes, it.fault_every_s, it.seed, tell)},
        ("minutes", "fault_every_s", "seed"),
    ),
    "real": Part(
        {"kills": lambda it, folder, tell: real.kill(folder, it.real_rounds, it.seed, tell)}, ("real_rounds", "seed")
    ),
    "import": Part(
        {
            "fake": lambda _, folder, tell: overload.import_and_search(folder, 100, tell),
            "real": lambda _, folder, tell: real.import_and_search(folder, 200, tell),
        }
    ),
}
