"""What answers say, put together from what was asked."""

from __future__ import annotations

from typing import Any

import pytest

from .fake_vectors import vector_of


def score_of(one: tuple[bytes, str], other: tuple[bytes, str]) -> Any:
    return pytest.approx(float(vector_of(*one) @ vector_of(*other)), abs=1e-5)


def added(content_id: str, content_type: str = "text", duplicate_of: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "id": content_id,
        "type": content_type,
        "status": "added",
        "duplicate_of": list(duplicate_of),
        "truncated": False,
        "msg": f"{content_type} added",
    }
