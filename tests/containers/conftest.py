"""The engine, and one archive in containers for all tests of a file: each leaves it as it was, but for its contents."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import engine
from .engine import BOUNDS, Project, running
from .load import Adds


@pytest.fixture(scope="session")
def images() -> None:
    """Both, on an engine that runs."""
    why = engine.start()
    if why is not None:
        pytest.skip(why)


@pytest.fixture(scope="session")
def model_store(images: None, clip_mar: Path) -> Path:
    """The archive's folder, readable for the containers' user."""
    clip_mar.parent.chmod(0o755)
    clip_mar.chmod(0o644)
    return clip_mar.parent


@pytest.fixture(scope="module")
def project(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """docker-compose.yml, up."""
    folder = tmp_path_factory.mktemp("project")
    project = Project(f"clip{uuid.uuid4().hex[:8]}", folder, model_store, environment=BOUNDS)
    with running(project):
        yield project


@pytest.fixture(scope="module")
def adds(project: Project) -> Adds:
    """Those to the archive, and what it has acknowledged."""
    return Adds(project.port)
