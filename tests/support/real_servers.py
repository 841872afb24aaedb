"""Fixtures with nothing faked: the archive, TorchServe serving it, the oracle on the same weights."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .sidecar import AUTHORIZATION, ROOT, SidecarProcess

if TYPE_CHECKING:
    from .openai_clip import OpenAIClip


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class TorchServe:
    """A real TorchServe on ports and folders of its own, started as the product starts it."""

    model_store: Path
    state: Path
    extra_environment: dict[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=lambda: free_ports(5))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def key_file(self) -> Path:
        return self.state / "key_file.json"

    @property
    def environment(self) -> dict[str, str]:
        inference, management, metrics, grpc_inference, grpc_management = self.ports
        return {
            **os.environ,
            "TS_INFERENCE_ADDRESS": f"http://127.0.0.1:{inference}",
            "TS_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{management}",
            "TS_METRICS_ADDRESS": f"http://127.0.0.1:{metrics}",
            "TS_GRPC_INFERENCE_PORT": str(grpc_inference),
            "TS_GRPC_MANAGEMENT_PORT": str(grpc_management),
            **self.extra_environment,
        }

    def start(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "deploy.serve", "--config", str(ROOT / "config.properties")]
        command += ["--model-store", str(self.model_store), "--state", str(self.state)]
        with (self.state / "output.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, cwd=ROOT)

    def wait(self, seconds: float = 180) -> None:
        """Until the model answers a prediction."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, (self.state / "output.log").read_text()[-2000:]
            if self._has_keys() and self.predict(b"ready?", "text").status == 200:
                return
            time.sleep(0.2)
        raise AssertionError(f"TorchServe did not start: {(self.state / 'output.log').read_text()[-2000:]}")

    def _has_keys(self) -> bool:
        try:
            return bool(self.key("inference"))
        except (FileNotFoundError, json.JSONDecodeError):  # not there, or half written
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def worker_pid(self) -> int:
        described = json.loads(self.manage("GET", "/models/clip").body)
        return int(described[0]["workers"][0]["pid"])

    def key(self, kind: str) -> str:
        return str(json.loads(self.key_file.read_text())[kind]["key"])

    def predict(self, data: bytes, content_type: str | None, accept: str = "*/*", path: str = "") -> Reply:
        headers = {"Authorization": f"Bearer {self.key('inference')}", "Content-Type": "application/octet-stream"}
        headers |= {"Accept": accept} | ({"X-CLIP-Type": content_type} if content_type else {})
        while True:
            reply = http("POST", self.url + (path or f"/predictions/clip?type={content_type}"), data, headers)
            if not (reply.status == 503 and b"still_decoding" in reply.body):  # it takes long: ask again
                return reply

    def manage(self, method: str, path: str) -> Reply:
        return http(method, self.management_url + path, None, {"Authorization": f"Bearer {self.key('management')}"})


def http(method: str, url: str, data: bytes | None, headers: dict[str, str]) -> Reply:
    """One request by urllib; status 0 when nobody answers."""
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return Reply(0, {}, b"")


class RealSidecar(SidecarProcess):
    """A sidecar process in front of a real TorchServe."""

    def __init__(self, torchserve: TorchServe, data_dir: Path, **environment: str) -> None:
        super().__init__(data_dir, torchserve.url, torchserve.key_file, **environment)

    def post(self, path: str, data: bytes) -> Reply:
        return http("POST", self.url + path, data, AUTHORIZATION)


@pytest.fixture(scope="session")
def clip_mar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model_store/clip.mar with untrained weights, built by the command of the README: once for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mar"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            command = [sys.executable, str(ROOT / "handler" / "build_mar.py"), "--weights", "untrained"]
            command += ["--model-store", str(folder / "model_store"), "--cache", str(folder / "cache")]
            subprocess.run(command, check=True)
            (folder / "built").touch()
    return folder / "model_store" / "clip.mar"


@pytest.fixture(scope="session")
def small_mar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip.mar without a model, for what TorchServe does around one: it is up in seconds."""
    model = {"modelName": "clip", "modelVersion": "1.0", "handler": "small_handler.py", "configFile": "config.yaml"}
    path = tmp_path_factory.mktemp("small") / "clip.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": model}))
        archive.writestr("config.yaml", "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 16\nmaxBatchDelay: 1\n")
        archive.write(ROOT / "tests" / "support" / "small_handler.py", "small_handler.py")
    return path


@pytest.fixture(scope="session")
def openai_clip(clip_mar: Path) -> OpenAIClip:
    """OpenAI's own code on the weights of `clip_mar`."""
    from .openai_clip import OpenAIClip  # with torch, which most runs of a few tests do without

    (weights,) = (clip_mar.parent.parent / "cache").glob("untrained-*.safetensors")
    return OpenAIClip(weights)


@pytest.fixture(scope="session")
def torchserve(clip_mar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """One TorchServe for all tests; a test that kills it starts it again."""
    server = TorchServe(clip_mar.parent, tmp_path_factory.mktemp("torchserve"))
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def managed_torchserve(small_mar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """One TorchServe with the small archive, in which models may be registered, for tests of its management."""
    folder = tmp_path_factory.mktemp("managed")
    server = TorchServe(small_mar.parent, folder, {"TS_ENABLE_MODEL_API": "true"})
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture
def real_sidecar(torchserve: TorchServe, tmp_path: Path) -> Iterator[RealSidecar]:
    """A sidecar process of its own, with an empty archive, in front of the real TorchServe."""
    with RealSidecar(torchserve, tmp_path / "data") as sidecar:
        sidecar.start()
        yield sidecar
