"""A question less a part of it, in a planted world of themes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from ..support.sidecar import Sidecar
from ..support.themes import plant


async def _themes(sidecar: Sidecar, query: list[dict[str, Any]], k: int, **fields: str) -> list[list[str]]:
    """What the k best are about."""
    body = json.dumps({"query": query, "k": k, **fields}).encode()
    reply = await sidecar.call("POST", "/search", body, headers={"Content-Type": "application/json"})
    return [hit["id"].split()[1].split("+") for hit in reply.json["contents"]]


async def test_one_minus_another_finds_what_is_left(sidecar: Sidecar) -> None:
    await plant(sidecar)
    less: dict[str, Any] = {"text": "theme=1 seed=98", "weight": -0.8}
    wholes: list[dict[str, Any]] = [{"text": "theme=4+1 seed=99"}, {"id": "image 4+1 0"}]
    for whole in wholes:
        for target in ("text", "image"):
            found = await _themes(sidecar, [whole, less], 4, target=target)
            assert len(found) == 4
            assert all("4" in themes and "1" not in themes for themes in found)
    assert any("1" in themes for themes in await _themes(sidecar, wholes[:1], 4))  # without the minus


@pytest.mark.slow
async def test_any_theme_minus_any_other_leaves_none_of_it_at_the_top(sidecar: Sidecar) -> None:
    await plant(sidecar)
    for one, other in itertools.permutations("012345", 2):
        both = f"{max(one, other)}+{min(one, other)}"
        less: dict[str, Any] = {"text": f"theme={other} seed=98", "weight": -1}
        wholes: list[dict[str, Any]] = [{"text": f"theme={both} seed=99"}, {"id": f"image {both} 0"}]
        for whole, target in itertools.product(wholes, ("text", "image")):
            found = await _themes(sidecar, [whole, less], 3, target=target)
            assert len(found) == 3
            assert all(one in themes and other not in themes for themes in found), (one, other, found)
