"""Settings of a sidecar that asks for keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from index_sidecar.settings import Settings


@pytest.fixture
def locked(settings: Settings) -> Settings:
    """Settings of a sidecar that asks for keys, without limits."""
    return replace(settings, access="keys", rate_limit="", model_rate_limit="")
