"""deploy.serve with a real TorchServe: its folder is its own, and it comes back from what it cannot mend itself."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import build_mar
import psutil
import pytest
import weights
import yaml

from deploy.predicts import predictions
from index_sidecar.settings import Settings

from ..support.real_servers import TorchServe, http
from ..support.sidecar import ROOT

CONFIG = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_text())


def _java(process: subprocess.Popen[bytes]) -> psutil.Process:
    (java,) = psutil.Process(process.pid).children()
    return java


def _output(server: TorchServe) -> str:
    return (server.state / "output.log").read_text()


@pytest.fixture
def server(small_mar: Path, tmp_path: Path) -> Iterator[TorchServe]:
    """A TorchServe of the test's own, not started, on a path too long for a socket's."""
    state = tmp_path / ("long" * 30) / "state"
    assert len(str(state)) > 150
    server = TorchServe(small_mar.parent, state)
    yield server
    server.stop()


def test_what_its_caller_gave_up_is_not_computed() -> None:
    assert CONFIG["clientTimeoutInMills"] == 1000 * Settings().torchserve_timeout_s


def test_torchserve_takes_the_time_outs_and_a_worker_is_started_again_for_weeks(torchserve: TorchServe) -> None:
    (model,) = yaml.safe_load(torchserve.manage("GET", "/models/clip").body)
    assert model["clientTimeoutInMills"] == CONFIG["clientTimeoutInMills"]
    assert model["maxRetryTimeoutInSec"] == CONFIG["maxRetryTimeoutInSec"] > 14 * 24 * 3600  # no overflow either


def test_it_serves_from_a_long_path_keeps_a_second_one_out_and_replaces_a_stopped_java(server: TorchServe) -> None:
    server.extra_environment["SERVE_DEAF_S"] = "12"
    server.start()
    server.wait()
    process = server.process
    assert process is not None

    before = (server.key_file.read_bytes(), server.predict(b"a cat", "text").status)
    second = TorchServe(server.model_store, server.state)
    second.start()
    assert second.process is not None
    assert second.process.wait(30) == 1
    assert f"another TorchServe lives on {server.state}" in _output(server)
    assert (server.key_file.read_bytes(), server.predict(b"a cat", "text").status) == before

    java = _java(process)
    worker = java.children()
    assert len(worker) == 1
    java.suspend()
    assert process.wait(60) == 1
    assert "TorchServe lives, but has not answered for" in _output(server)
    assert psutil.wait_procs([java, *worker], 10)[1] == []
    assert list(Path("/tmp").glob("clip-*/t")) == []

    server.start()  # as its supervisor does
    server.wait()
    assert server.predict(b"a cat", "text").status == 200


def test_a_busy_server_is_not_killed(clip_mar: Path, tmp_path: Path) -> None:
    """Twice as many callers as its queue holds: it refuses most, ours among them, for longer than it may be deaf."""
    server = TorchServe(clip_mar.parent, tmp_path / "state", {"SERVE_DEAF_S": "6", "TS_JOB_QUEUE_SIZE": "4"})
    config = yaml.safe_dump(CONFIG | {"jobQueueSize": 2, "batchSize": 1})
    (tmp_path / "model-config.yaml").write_text(config)
    server.model_store = build_mar.build(
        weights.untrained(clip_mar.parent.parent / "cache"), tmp_path / "model_store", tmp_path / "model-config.yaml"
    ).parent
    server.start()
    try:
        server.wait()
        statuses: list[int] = []
        until = time.monotonic() + 25

        def call() -> None:
            while time.monotonic() < until:
                statuses.append(server.predict(b"many words " * 40, "text").status)

        callers = [threading.Thread(target=call) for _ in range(24)]
        for caller in callers:
            caller.start()
        counted: list[float] = []
        while time.monotonic() < until:
            counted.append(predictions(f"127.0.0.1:{server.ports[2]}", server.key_file, 10) or -1)
            time.sleep(1)
        for caller in callers:
            caller.join()
        assert server.process is not None
        assert server.process.poll() is None, _output(server)[-2000:]
        assert statuses.count(503) > statuses.count(200) > 0
        assert set(statuses) == {200, 503}
        assert min(counted) > 0
        assert sorted(set(counted)) == counted  # it grows between any two looks
    finally:
        server.stop()


def test_a_worker_that_cannot_start_for_longer_than_torchserve_tries_comes_back(clip_mar: Path, tmp_path: Path) -> None:
    """TorchServe gives the worker up and lives on; the watch ends it; a supervisor starts it until it answers."""
    (tmp_path / "model-config.yaml").write_text(yaml.safe_dump(CONFIG | {"maxRetryTimeoutInSec": 3}))
    archive = build_mar.build(
        weights.untrained(clip_mar.parent.parent / "cache"), tmp_path / "model_store", tmp_path / "model-config.yaml"
    )
    broken = tmp_path / "broken"
    (tmp_path / "python").mkdir()
    # Every worker's Python comes past here first, whichever server started it.
    (tmp_path / "python" / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if any('model_service_worker' in word for word in sys.orig_argv) and os.path.exists({str(broken)!r}):\n"
        "    os._exit(3)\n"
    )
    environment = {"SERVE_START_S": "40", "SERVE_DEAF_S": "15", "PYTHONPATH": str(tmp_path / "python")}
    server = TorchServe(archive.parent, tmp_path / "state", environment)
    server.state.mkdir()
    lives: list[int] = []
    stop = threading.Event()

    def supervise() -> None:
        while not stop.is_set():
            server.start()
            assert server.process is not None
            lives.append(server.process.wait())

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        _until(lambda: _predicts(server), 120)
        broken.touch()
        psutil.Process(server.worker_pid()).kill()
        _until(lambda: len(lives) >= 2, 120)  # once past its limit, once from the start
        assert set(lives) == {1}
        assert "Retry worker" in _output(server)
        broken.unlink()
        _until(lambda: _predicts(server), 120)
    finally:
        stop.set()
        assert server.process is not None
        server.process.terminate()
        supervisor.join(30)


def _predicts(server: TorchServe) -> bool:
    try:
        return server.predict(b"ready?", "text").status == 200
    except (OSError, ValueError):  # no key file yet, or half of one
        return False


def _until(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_an_address_nobody_could_ask_is_refused(small_mar: Path, tmp_path: Path) -> None:
    server = TorchServe(small_mar.parent, tmp_path / "state", {"TS_INFERENCE_ADDRESS": "unix:/tmp/x.sock"})
    server.start()
    assert server.process is not None
    assert server.process.wait(30) == 1
    assert "inference_address must be http://HOST:PORT" in _output(server)
    assert http("GET", server.url, None, {}).status == 0
