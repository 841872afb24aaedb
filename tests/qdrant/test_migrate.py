"""`python -m index_sidecar migrate`: everything arrives, an interruption costs nothing, and what is wrong is told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from index_sidecar.archive.content import CONTENT_TYPES, Content
from index_sidecar.qdrant.store import QdrantStore
from index_sidecar.sqlite.store import SqliteStore

from ..support.contents import content_of, plain
from ..support.qdrant_server import QdrantServers, wait_for
from ..support.sidecar import ROOT

CONTENTS = [
    content_of(f"id {i} 漢", b"%d" % i, CONTENT_TYPES[i % 3 == 0], (None, "ann")[i % 2], truncated=i % 5 == 0)
    for i in range(1500)
]


def _preview(content: Content) -> bytes | None:
    return content.sha256 * 20 if content.type == "image" else None


async def _fill(data_dir: Path, contents: list[Content]) -> None:
    store = SqliteStore(data_dir / "contents.sqlite")
    await asyncio.gather(*(store.put(content, _preview(content)) for content in contents))
    await store.close()


def _command(
    servers: QdrantServers, data_dir: Path, collection: str, key_file: Path | None = None
) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DATA_DIR": str(data_dir),
        "QDRANT_API_KEY_FILE": str(key_file or servers.key_file),
        "QDRANT_SHARDS": "1",
        "QDRANT_TIMEOUT_S": "3",
    }
    command = [sys.executable, "-m", "index_sidecar", "migrate", "--to", servers.url(collection)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = process.communicate(timeout=60)
    assert output == ""
    return process.returncode, errors


def _migrate(servers: QdrantServers, data_dir: Path, collection: str) -> tuple[int, str]:
    return _finish(_command(servers, data_dir, collection))


async def _all_is_there(servers: QdrantServers, collection: str, contents: list[Content]) -> None:
    store = QdrantStore(servers.collection(collection))
    assert await store.count() == len(contents)
    there = {content.id: plain(content) for content in await store.get_many([each.id for each in contents])}
    assert there == {content.id: plain(content) for content in contents}
    for content in contents[::97]:
        found = await store.preview(content.id)
        assert (found and found[1]) == _preview(content)
    await store.close()


async def test_everything_arrives_and_a_second_run_sends_only_what_is_new(
    qdrant: QdrantServers, tmp_path: Path, collection_name: str
) -> None:
    await _fill(tmp_path, CONTENTS[:900])
    code, errors = _migrate(qdrant, tmp_path, collection_name)
    assert code == 0, errors
    assert "migrate: 100%" in errors
    assert "900 contents sent, 0 were there already" in errors
    assert "done, 900 contents; 500 compared bit by bit" in errors
    await _all_is_there(qdrant, collection_name, CONTENTS[:900])

    await _fill(tmp_path, CONTENTS[880:1000])
    code, errors = _migrate(qdrant, tmp_path, collection_name)
    assert code == 0, errors
    assert "100 contents sent, 900 were there already" in errors
    await _all_is_there(qdrant, collection_name, CONTENTS[:1000])


async def test_an_interrupted_run_goes_on(qdrant: QdrantServers, tmp_path: Path, collection_name: str) -> None:
    await _fill(tmp_path, CONTENTS)
    process = _command(qdrant, tmp_path, collection_name)
    node = qdrant.nodes[0]

    def some_are_there() -> bool:
        if not node.answers(f"/collections/{collection_name}/exists"):
            return False
        if not node.call("GET", f"/collections/{collection_name}/exists")["exists"]:
            return False
        return bool(node.call("POST", f"/collections/{collection_name}/points/count", {})["count"])

    for _ in range(5):  # on a busy machine it may be through before it is told to stop
        wait_for(some_are_there, 30)
        process.send_signal(signal.SIGINT)
        code, errors = _finish(process)
        if code != 0:
            break
        node.call("DELETE", f"/collections/{collection_name}")
        process = _command(qdrant, tmp_path, collection_name)
    assert code == 130
    assert errors.splitlines()[-1] == "index_sidecar: interrupted; the same command goes on with what is missing"

    code, errors = _migrate(qdrant, tmp_path, collection_name)
    assert code == 0, errors
    found = re.search(r"(\d+) contents sent, (\d+) were there already", errors)
    assert found is not None
    sent, before = int(found[1]), int(found[2])
    assert sent + before == 1500
    assert before >= 100
    await _all_is_there(qdrant, collection_name, CONTENTS)


async def test_two_archives_are_not_mixed_up_in_silence(
    qdrant: QdrantServers, tmp_path: Path, collection_name: str
) -> None:
    await _fill(tmp_path, CONTENTS[:10])
    store = QdrantStore(qdrant.collection(collection_name))
    await store.put(content_of("of another archive"))
    await store.close()
    code, errors = _migrate(qdrant, tmp_path, collection_name)
    assert code == 1
    last = errors.splitlines()[-1]
    assert last.startswith("index_sidecar: not migrated: DATA_DIR has 6 contents of the type text, the collection 7.")
    assert "Nothing was lost" in last


async def test_what_is_wrong_is_told_in_one_line(qdrant: QdrantServers, tmp_path: Path, collection_name: str) -> None:
    code, errors = _migrate(qdrant, tmp_path, collection_name)
    assert code == 1
    assert errors.startswith(f"index_sidecar: not migrated: there is no archive in {tmp_path}: set DATA_DIR")
    assert not (tmp_path / "contents.sqlite").exists()

    await _fill(tmp_path, CONTENTS[:3])
    store = SqliteStore(tmp_path / "contents.sqlite")  # as a running sidecar has it
    code, errors = _migrate(qdrant, tmp_path, collection_name)
    assert (code, errors.count("\n")) == (1, 1)
    assert f"another sidecar uses {tmp_path}: stop it" in errors
    await store.close()

    (tmp_path / "key").write_text("wrong-key-marker")
    code, errors = _finish(_command(qdrant, tmp_path, collection_name, tmp_path / "key"))
    assert code == 1
    assert "QDRANT_API_KEY_FILE" in errors.splitlines()[-1]
    assert "wrong-key-marker" not in errors
    assert "Traceback" not in errors


async def test_another_model_on_the_cluster_is_refused(
    qdrant: QdrantServers, tmp_path: Path, collection_name: str
) -> None:
    await _fill(tmp_path, CONTENTS[:3])
    store = QdrantStore(qdrant.collection(collection_name))
    await store.put(content_of("a", fingerprint="clip-vit-b-32:openai:fedcba9876543210:p1"))
    await store.close()
    code, errors = _migrate(qdrant, tmp_path, collection_name)
    assert code == 1
    assert "cannot be compared" in errors.splitlines()[-1]


@pytest.mark.parametrize("url", ["http://one", "qdrant://", "qdrant://:secret-marker@one"])
def test_a_url_that_is_none(url: str) -> None:
    command = [sys.executable, "-m", "index_sidecar", "migrate", "--to", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "--to" in done.stderr
    assert "secret-marker" not in done.stderr


def test_the_help_teaches() -> None:
    command = [sys.executable, "-m", "index_sidecar", "migrate", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    for word in ("Stop the sidecar", "interrupted", "INDEX_URL", "QDRANT_API_KEY_FILE", "DATA_DIR is only read"):
        assert word in done.stdout
