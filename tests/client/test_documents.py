"""What docs/client.md, docs/import.md and docs/migrating.md show is done as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ..support.fake_torchserve import PNG
from ..support.fake_vectors import vector_of
from ..support.sidecar import ADMIN_KEY, ROOT, Sidecar

DOCS = ROOT / "docs"


def _blocks(name: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


async def _run(command: list[str], script: str, folder: Path, sidecar: Sidecar) -> str:
    """What a script prints, in a folder, with the archive where the documents have it."""
    environment = {
        **os.environ,
        "CLIP_ARCHIVE_URL": sidecar.url,
        "CLIP_ARCHIVE_KEY": ADMIN_KEY,
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = await asyncio.to_thread(
        subprocess.run, command, input=script, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the scripts run: with a picture, a folder of them, and the command."""
    folder = tmp_path / "here"
    (folder / "photographs").mkdir(parents=True)
    (folder / "bin").mkdir()
    for name in ("a", "b"):
        (folder / "photographs" / f"{name}.png").write_bytes(PNG + name.encode())
    (folder / "photographs" / "c.jpg").write_bytes(b"\xff\xd8\xff picture")
    shutil.copy(folder / "photographs" / "c.jpg", folder / "photo.jpg")
    command = folder / "bin" / "clip-archive"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m clip_archive "$@"\n')
    command.chmod(0o755)
    curl = folder / "bin" / "curl"  # which shows the key, where the archive of this run asks for one
    curl.write_text(
        f'#!/bin/sh\nexec {shutil.which("curl")} --fail --header "Authorization: Bearer {ADMIN_KEY}" "$@"\n'
    )
    curl.chmod(0o755)
    return folder


async def test_the_client_does_what_its_page_shows(sidecar: Sidecar, folder: Path) -> None:
    script = "\n".join(_blocks("client.md", "python"))
    told = await _run([sys.executable, "-W", "error", "-"], script, folder, sidecar)
    assert told.startswith("added\n")
    assert "not_found" in told
    assert "['b'] 2" in told


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_import_page_is_done_as_it_stands(sidecar: Sidecar, folder: Path) -> None:
    told = ""
    for block in _blocks("import.md", "sh"):
        told += await _run(["bash", "-eu"], block, folder, sidecar)
    assert "cat-1: text added" in told
    assert '"unchanged"' in told
    assert (folder / "folder" / "vectors.npy").exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_recipes_from_elsewhere_are_done_as_they_stand(sidecar: Sidecar, folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table
    (script,) = _blocks("migrating.md", "python")
    (folder / "embeddings.py").write_text(script)
    pictures = [folder / "photographs" / f"{name}.png" for name in ("a", "b")]
    vectors = np.stack([vector_of(each.read_bytes(), "image") for each in pictures]).astype(np.float16)
    (folder / "embeddings" / "img_emb").mkdir(parents=True)
    (folder / "embeddings" / "metadata").mkdir()
    np.save(folder / "embeddings" / "img_emb" / "img_emb_0.npy", vectors)
    columns = {"image_path": [str(each) for each in pictures], "key": ["000", "001"], "caption": ["A cat", None]}
    parquet.write_table(table(columns), folder / "embeddings" / "metadata" / "metadata_0.parquet")
    told = [await _run(["bash", "-eu"], block, folder, sidecar) for block in _blocks("migrating.md", "sh")]
    prototype, photographs, taken_over = told
    assert '"contents": ["cat-1"]' in prototype
    assert "3 added" in photographs
    assert "2 added" in taken_over
    stored = (await sidecar.call("GET", "/contents/000")).json
    assert (stored["metadata"], stored["type"]) == ({"caption": "A cat"}, "image")
    similar = (await sidecar.call("GET", "/contents/000/similar?k=1")).json["contents"]
    assert (similar[0]["id"], similar[0]["score"] > 0.999) == ("a.png", True)
