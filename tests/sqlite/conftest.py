"""Where a store's file lies, and disks that are too small for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support import disks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "contents.sqlite"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    with disks.small_disk(tmp_path / "disk", "2m") as folder:
        yield folder
