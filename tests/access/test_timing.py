"""How long a wrong key takes tells nothing of how much of it was right.

The measure is that of Reparaz, Balasch & Verbauwhede 2017, "Dude, is my code constant time?": two kinds of input in an
order drawn by chance, and Welch's t of their times. It sees what a comparison character by character gives away.
"""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from index_sidecar.access.command import add_key
from index_sidecar.access.keys import Keys
from index_sidecar.access.roles import Role

_CALLS = 40_000
_KINDS = 400  # different keys of each kind, so that none of them is known to a cache
_TELLS = 5.0  # of t: by chance once in a million measurements


def _t(ask: Callable[[str], object], nearly: list[str], far: list[str]) -> float:
    """How surely the times of the two kinds differ."""
    numbers = random.Random(1)
    kinds = [numbers.randrange(2) for _ in range(_CALLS)]
    asked = [numbers.choice((far, nearly)[kind]) for kind in kinds]
    took = np.empty(_CALLS)
    for number, key in enumerate(asked):
        began = time.perf_counter_ns()
        ask(key)
        took[number] = time.perf_counter_ns() - began
    usual = took < np.percentile(took, 90)  # others had the core at the rest
    one, other = (took[usual & (np.array(kinds) == kind)] for kind in (0, 1))
    return float(abs(one.mean() - other.mean()) / np.sqrt(one.var() / len(one) + other.var() / len(other)))


def _wrong_keys(right: str) -> tuple[list[str], list[str]]:
    """Keys that differ from the right one in their last characters only, and keys that differ in all but the prefix."""
    numbers = random.Random(2)

    def drawn(count: int) -> str:
        return "".join(numbers.choices(string.ascii_letters + string.digits, k=count))

    nearly = [right[:-4] + drawn(4) for _ in range(_KINDS)]
    far = [right[:6] + drawn(len(right) - 6) for _ in range(_KINDS)]
    return [key for key in nearly if key != right], far


def test_a_wrong_key_takes_as_long_however_much_of_it_is_right(tmp_path: Path) -> None:
    right = add_key(tmp_path / "keys.json", "backend", Role.READER, None, None)
    for number in range(20):
        add_key(tmp_path / "keys.json", f"other-{number}", Role.READER, None, None)
    keys = Keys(tmp_path / "keys.json")
    nearly, far = _wrong_keys(right)
    assert {keys.caller(key) for key in (*nearly, *far)} == {None}

    def character_by_character(key: str) -> bool:
        return all(one == other for one, other in zip(key, right, strict=True))

    assert _t(character_by_character, nearly, far) > _TELLS  # so the measure would see it
    assert min(_t(keys.caller, nearly, far) for _ in range(3)) < _TELLS
