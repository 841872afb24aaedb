"""deploy/qdrant.compose.yml: what it allows, and that its commands start, probe and serve a real Qdrant."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from index_sidecar.qdrant.url import QdrantUrl, qdrant_url
from index_sidecar.settings import Settings

from ..support.containers import argv, compose
from ..support.qdrant_server import BINARY, QdrantServers, wait_for
from ..support.real_servers import free_ports, http
from ..support.sidecar import ROOT

FILE = "deploy/qdrant.compose.yml"


@pytest.fixture
def node() -> dict[str, Any]:
    service: dict[str, Any] = compose(FILE)["services"]["qdrant"]
    return service


def test_without_the_override_nothing_knows_of_qdrant() -> None:
    assert "qdrant" not in (ROOT / "docker-compose.yml").read_text().lower()


def test_the_server_is_reached_by_the_sidecar_alone(node: dict[str, Any]) -> None:
    base = compose()
    assert node["networks"] == ["inference"]
    assert base["networks"]["inference"] == {"internal": True}
    assert not {"ports", "expose", "network_mode", "links"} & set(node)
    assert node["environment"]["QDRANT__TELEMETRY_DISABLED"] == "true"


def test_the_container_may_do_nothing_but_its_work(node: dict[str, Any]) -> None:
    assert node["read_only"] is True
    assert node["cap_drop"] == ["ALL"]
    assert node["security_opt"] == ["no-new-privileges:true"]
    assert node["volumes"] == ["qdrant:/qdrant/storage"]
    assert re.fullmatch(r"[1-9]\d*g", node["mem_limit"])
    assert node["memswap_limit"] == node["mem_limit"]
    assert 256 <= node["pids_limit"] <= 4096
    # Over a folder that the image has, runc 1.1 ignores the mode: only its owner may write there.
    (snapshots,) = [each for each in node["tmpfs"] if each.startswith("/qdrant/snapshots:")]
    assert {"uid=1000", "gid=1000", "mode=0700"} <= set(snapshots.split(":")[1].split(","))
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(node)


def test_the_image_is_of_the_version_that_is_tested(node: dict[str, Any]) -> None:
    found = re.fullmatch(r"qdrant/qdrant:v(\d+\.\d+\.\d+)-unprivileged", node["image"])
    assert found is not None
    assert f"qdrant-linux-x64@{found[1]}" in (ROOT / "Makefile").read_text()


def test_the_key_is_a_secret_file_for_both_and_in_no_environment(node: dict[str, Any]) -> None:
    file = compose(FILE)
    sidecar = file["services"]["sidecar"]
    assert node["secrets"] == sidecar["secrets"] == ["qdrant_api_key"]
    assert file["secrets"] == {"qdrant_api_key": {"file": "./secrets/qdrant_api_key"}}
    assert not [name for name in node["environment"] if "KEY" in name]
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_sidecar_is_told_where_it_is_and_waits_for_it() -> None:
    sidecar = compose(FILE)["services"]["sidecar"]
    assert sidecar["depends_on"] == {"qdrant": {"condition": "service_healthy"}}
    settings = Settings.from_environment(sidecar["environment"])
    assert qdrant_url(settings.index_url) == QdrantUrl(("http://qdrant:6333",), "contents")
    assert settings.qdrant_api_key_file == Path("/run/secrets/qdrant_api_key")


def test_its_commands_start_a_server_that_wants_the_key(
    node: dict[str, Any], qdrant: QdrantServers, tmp_path: Path
) -> None:
    http_port, grpc_port = free_ports(2)
    (tmp_path / "qdrant").symlink_to(BINARY)

    def here(word: str) -> str:
        return (
            word.replace("$$", "$")
            .replace("/run/secrets/qdrant_api_key", str(qdrant.key_file))
            .replace("/6333", f"/{http_port}")
        )

    environment = {"PATH": os.environ["PATH"], **node["environment"]}
    environment |= {"QDRANT__SERVICE__HOST": "127.0.0.1", "QDRANT__SERVICE__HTTP_PORT": str(http_port)}
    environment |= {"QDRANT__SERVICE__GRPC_PORT": str(grpc_port), "QDRANT_INIT_FILE_PATH": str(tmp_path / "started")}
    probe = [here(word) for word in argv(node["healthcheck"]["test"])]

    def healthy() -> bool:
        return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0

    assert not healthy()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [here(word) for word in node["entrypoint"]], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(healthy, 30, tmp_path / "log")
        url = f"http://127.0.0.1:{http_port}/collections"
        key = qdrant.key_file.read_text().strip()
        for headers, status in (({"api-key": key}, 200), ({"api-key": "wrong"}, 401), ({}, 401)):
            assert http("GET", url, None, headers).status == status
        process.terminate()
        process.wait(30)
        assert not healthy()
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("content", [None, "", " \n\n"])
def test_it_does_not_start_without_a_key(node: dict[str, Any], tmp_path: Path, content: str | None) -> None:
    key_file = tmp_path / "key"
    if content is not None:
        key_file.write_text(content)
    (tmp_path / "qdrant").write_text("#!/bin/sh\necho started\n")  # must not be reached
    (tmp_path / "qdrant").chmod(0o755)
    command = [
        word.replace("$$", "$").replace("/run/secrets/qdrant_api_key", str(key_file)) for word in node["entrypoint"]
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the secret qdrant_api_key is empty or cannot be read" in done.stderr
