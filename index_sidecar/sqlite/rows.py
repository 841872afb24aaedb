"""The schema, and how a row of it becomes a content."""

from __future__ import annotations

import numpy as np

from ..archive.content import Content, Embedding, Entry
from . import blocks, metadata, originals
from .connection import Schema
from .migrations import STEPS
from .reader import Row

# Keys only grow, also after deletions: a page that ends at a key goes on behind it. What must be gone when it is
# erased is in blocks: `block` is the vector's, `preview`, `metadata` and `original` are JSON lists of theirs.
SCHEMA = Schema(
    f"""
CREATE TABLE contents (
    key       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT NOT NULL UNIQUE,
    type      TEXT NOT NULL CHECK (type IN ('text', 'image')),
    user      TEXT,
    sha256    BLOB NOT NULL CHECK (length(sha256) = 32),
    created   REAL NOT NULL,
    truncated INTEGER NOT NULL,
    block     INTEGER NOT NULL,
    preview   TEXT,
    metadata  TEXT,
    original  TEXT
) STRICT;
CREATE INDEX contents_by_bytes ON contents (type, sha256, key, user, id);
CREATE INDEX contents_by_type ON contents (type);
CREATE INDEX contents_by_user ON contents (user) WHERE user IS NOT NULL;
CREATE INDEX contents_by_age ON contents (user, type, created) WHERE user IS NOT NULL;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
{blocks.schema("vectors")}{blocks.schema("previews")}{metadata.SCHEMA}{originals.SCHEMA}""",
    3,
    STEPS,
)
VECTOR = "(SELECT bytes FROM vectors WHERE vectors.block = contents.block)"
MODEL = "SELECT value FROM meta WHERE name = 'model'"
ENTRY = f"id, type, user, sha256, created, truncated, {metadata.COLUMN}"
CONTENT = f"{ENTRY}, {VECTOR}, ({MODEL}), key"


def entry(row: Row) -> Entry:
    """What the columns ENTRY hold."""
    content_id, content_type, user, sha256, created, truncated, told = row
    return Entry(content_id, content_type, user, sha256, created, bool(truncated), metadata.read(told))


def content(row: Row) -> Content:
    """What the columns CONTENT hold."""
    content_id, content_type, user, sha256, created, truncated, told, vector, fingerprint, key = row
    embedding = Embedding(np.frombuffer(vector, "<f4"), fingerprint, bool(truncated))
    return Content(content_id, content_type, user, sha256, created, embedding, metadata.read(told), key)
