"""`pip install .` gives a wheel with sidecar and client, whole and alone, that runs without this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from index_sidecar import __version__

from .support.sidecar import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, since a build leaves its traces in the folder it is made in."""
    folder = tmp_path_factory.mktemp("package")
    left_out = shutil.ignore_patterns("__pycache__", ".*", "data", "run", "model_store", "build", "*.egg-info")
    shutil.copytree(ROOT, folder / "source", ignore=left_out)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", folder, folder / "source"], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_it_holds_sidecar_and_client_and_nothing_else(wheel: Path) -> None:
    folders = (ROOT / "index_sidecar", ROOT / "clip_archive")
    ours = {each for folder in folders for each in folder.rglob("*") if each.is_file() and each.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    assert names == {str(path.relative_to(ROOT)) for path in ours}
    assert {"index_sidecar/py.typed", "clip_archive/py.typed"} <= names
    assert len(licences) == 1


def test_its_metadata_are_those_of_the_source(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("clip-archive", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_it_asks_for_what_is_tested(metadata: Message) -> None:
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    assert {"aiohttp", "faiss-cpu", "numpy", "httpx2", "click"} <= {each.name for each in asked}
    wrong = [str(each) for each in asked if not each.marker and not each.specifier.contains(version(each.name))]
    assert wrong == []
    assert [str(each) for each in asked if not each.specifier] == []


def test_it_runs_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, wheel], check=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert run(sys.executable, "-m", "index_sidecar", "--version") == __version__
    assert run(target / "bin" / "clip-archive-sidecar", "--version") == __version__
    assert run(target / "bin" / "clip-archive", "--version") == __version__
    where = run(sys.executable, "-c", "import index_sidecar.app; print(index_sidecar.app.__file__)")
    assert Path(where).is_relative_to(target)
