"""Contents of a planted world of themes."""

from __future__ import annotations

import asyncio

from index_sidecar.archive.content import Content, ContentType

from .contents import content_of
from .fake_torchserve import PNG
from .sidecar import Sidecar


def bytes_of(theme: int, seed: int, content_type: str = "text", more: str = "") -> bytes:
    return (PNG if content_type == "image" else b"") + b"theme=%d seed=%d %s" % (theme, seed, more.encode())


def planted(content_id: str, theme: int, seed: int, content_type: ContentType = "text", user: str = "ann") -> Content:
    return content_of(content_id, bytes_of(theme, seed, content_type), content_type, user)


async def plant(sidecar: Sidecar) -> None:
    """Of the themes 0 to 5, and of each with each, texts and pictures: large enough that the means are known."""
    themes = [str(one) for one in range(6)] + [f"{one}+{two}" for one in range(6) for two in range(one)]
    for theme in themes:
        adds = []
        for seed in range(4):
            data = f"theme={theme} seed={seed}".encode()
            adds.append(sidecar.add(f"text {theme} {seed}", data))
            adds.append(sidecar.add(f"image {theme} {seed}", PNG + data, "image"))
        assert all(reply.status == 201 for reply in await asyncio.gather(*adds))
