"""A content's point: its id, and the content that it is of."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from ..archive.content import Content, Embedding
from . import listing

_NAMESPACE = uuid.UUID("c8bb6a1e-6a5f-4d0c-9f0b-3f2f7d0f6a57")
# Previews and originals are many times larger than all the rest: read only when one is asked for.
WHOLE: dict[str, Any] = {**listing.ENTRY, "with_vector": True}


def point_id(content_id: str) -> str:
    """The UUID (version 5) of a content's point: the same in every sidecar, so that a write can be repeated."""
    return str(uuid.uuid5(_NAMESPACE, content_id))


def content_of(point: listing.Point) -> Content:
    """What a point with its vector is of."""
    entry, model = listing.entry(point), point["payload"]["model"]
    embedding = Embedding(np.array(point["vector"], np.float32), model, entry.truncated)
    return Content(entry.id, entry.type, entry.user, entry.sha256, entry.created, embedding, entry.metadata)
