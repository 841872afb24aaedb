"""Contents as the service makes them, for tests below HTTP."""

from __future__ import annotations

from index_sidecar.archive.content import Content, ContentType, Embedding, digest

from .fake_torchserve import FINGERPRINT
from .fake_vectors import vector_of


def content_of(
    content_id: str,
    data: bytes = b"bytes",
    content_type: ContentType = "text",
    user: str | None = None,
    fingerprint: str = FINGERPRINT,
    truncated: bool = False,
) -> Content:
    embedding = Embedding(vector_of(data, content_type), fingerprint, truncated)
    return Content(content_id, content_type, user, digest(data), 1_700_000_000.25, embedding)


def plain(content: Content | None) -> tuple[object, ...]:
    """Everything a content holds, in a form that `==` compares."""
    assert content is not None
    embedding = content.embedding
    head = (content.id, content.type, content.user, content.sha256, content.created)
    return (*head, embedding.vector.tobytes(), embedding.fingerprint, embedding.truncated)
