"""Each container's commands run as plain processes (no engine is needed)."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.containers import Container
from ..support.real_servers import free_ports, http


@pytest.fixture
def containers(clip_mar: Path, tmp_path: Path) -> Iterator[tuple[Container, Container]]:
    """TorchServe's and the sidecar's container, not started."""
    inference, management, metrics, grpc_inference, grpc_management, sidecar_port = map(str, free_ports(6))
    folders = {path: str(tmp_path / path[1:]) for path in ("/state", "/data")} | {"/model_store": str(clip_mar.parent)}
    for path in ("/state", "/data"):
        Path(folders[path]).mkdir()
    ports = {"0.0.0.0": "127.0.0.1", "torchserve": "127.0.0.1", "8080": inference, "8090": sidecar_port}
    ports |= {"8081": management, "8082": metrics}
    torchserve = Container("torchserve", tmp_path / "srv_torchserve", folders | ports)
    sidecar = Container("sidecar", tmp_path / "srv_sidecar", folders | ports)
    # In its container TorchServe has all ports for itself.
    config = torchserve.workdir / "config.properties"
    own_ports = f"grpc_inference_port={grpc_inference}\ngrpc_management_port={grpc_management}\n"
    config.write_text(torchserve.here(config.read_text()) + own_ports)
    try:
        yield torchserve, sidecar
    finally:
        sidecar.kill()
        torchserve.kill()


def test_the_containers_commands_start_answer_and_stop(containers: tuple[Container, Container]) -> None:
    torchserve, sidecar = containers
    assert not torchserve.healthy()
    assert not sidecar.healthy()

    torchserve.start()
    torchserve.wait()
    sidecar.start()
    sidecar.wait()
    decoders = len(os.sched_getaffinity(0)) + 1  # one takes no large pictures
    assert len(torchserve.processes()) == 3 + decoders  # the one that watches, Java, and its Python worker
    assert len(sidecar.processes()) == 2

    url = sidecar.here("http://0.0.0.0:8090")
    for number, text in enumerate((b"a cat on a roof", b"a ship at sea")):
        assert http("POST", f"{url}/add_content?id=c{number}&type=text", text, {}).status == 201
    found = json.loads(http("POST", f"{url}/retrieve?type=text&k=1", b"a ship at sea", {}).body)
    assert [hit["id"] for hit in found["contents"]] == ["c1"]

    # TorchServe's log has one line an event and nothing per request, and nothing is logged beside it ...
    key_file = Path(torchserve.here("/state/key_file.json"))
    assert {path.name for path in key_file.parent.iterdir()} == {"key_file.json", "lock", "metrics_token", "tmp"}
    lines = torchserve.log.read_text().splitlines()
    assert [line for line in lines if "State change WORKER_STARTED -> WORKER_MODEL_LOADED" in line]
    assert [line for line in lines if re.search(r"INFO +MODEL_LOG: clip ready: model=clip-vit-b-32:untrained", line)]
    assert len(lines) < 40
    assert not [line for line in lines if "inference at" in line or "METRICS" in line or "/predictions" in line]
    # ... and its metrics, which it logs in another mode, are counted all the same.
    token = key_file.with_name("metrics_token").read_text()
    metrics = http("GET", torchserve.here("http://0.0.0.0:8082/metrics"), None, {"Authorization": f"Bearer {token}"})
    counted = re.search(rb"^ts_inference_requests_total\{.*\} (\S+)$", metrics.body, re.MULTILINE)
    assert counted is not None
    assert float(counted[1]) >= 4

    assert sidecar.stop() == 0
    assert sidecar.processes() == []
    assert not sidecar.healthy()
    assert torchserve.stop() == 128 + signal.SIGTERM
    assert torchserve.processes() == []
    assert not torchserve.healthy()
