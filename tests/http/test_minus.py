"""A question less a part of it, in a planted world of themes."""

from __future__ import annotations

import itertools
import json
from typing import Any

from ..support.sidecar import Sidecar
from ..support.themes import plant


async def _themes(sidecar: Sidecar, query: list[dict[str, Any]], target: str) -> list[list[str]]:
    """What the three best of a type are about."""
    body = json.dumps({"query": query, "k": 3, "target": target}).encode()
    reply = await sidecar.call("POST", "/search", body, headers={"Content-Type": "application/json"})
    return [hit["id"].split()[1].split("+") for hit in reply.json["contents"]]


async def test_any_theme_minus_any_other_leaves_none_of_it_at_the_top(sidecar: Sidecar) -> None:
    await plant(sidecar)
    for one, other in itertools.permutations("012345", 2):
        both = f"{max(one, other)}+{min(one, other)}"
        less: dict[str, Any] = {"text": f"theme={other} seed=98", "weight": -1}
        wholes: list[dict[str, Any]] = [{"text": f"theme={both} seed=99"}, {"id": f"image {both} 0"}]
        for whole, target in itertools.product(wholes, ("text", "image")):
            found = await _themes(sidecar, [whole, less], target)
            assert len(found) == 3
            assert all(one in themes and other not in themes for themes in found), (one, other, found)
