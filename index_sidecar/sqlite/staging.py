"""Where a restore makes ready what it puts into the archive's place."""

from __future__ import annotations

from pathlib import Path


def staging_of(database: Path) -> Path:
    """The folder in which it does."""
    return database.parent / "restoring"


def ready_mark(database: Path) -> Path:
    """The file that is there once all is ready, and the restore will be finished."""
    return staging_of(database) / "ready"
