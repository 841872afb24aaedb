"""Contents of a planted world of themes."""

from __future__ import annotations

from index_sidecar.archive.content import Content, ContentType

from .contents import content_of
from .fake_torchserve import PNG


def bytes_of(theme: int, seed: int, content_type: str = "text", more: str = "") -> bytes:
    return (PNG if content_type == "image" else b"") + b"theme=%d seed=%d %s" % (theme, seed, more.encode())


def planted(content_id: str, theme: int, seed: int, content_type: ContentType = "text", user: str = "ann") -> Content:
    return content_of(content_id, bytes_of(theme, seed, content_type), content_type, user)
