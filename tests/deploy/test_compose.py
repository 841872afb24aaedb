"""docker-compose.yml: what it allows, and each container's commands run as plain processes (no engine is needed).

A container is imitated as far as processes go: its working folder holds what its Dockerfile copies and nothing else,
its environment is what the Dockerfile and the compose file set and nothing else, and its paths and addresses are
replaced by folders and free ports of this machine.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..support.real_servers import free_ports, http

ROOT = Path(__file__).parent.parent.parent


def compose(file: str = "docker-compose.yml") -> dict[str, Any]:
    """A compose file with every ${NAME:-default} at its default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / file).read_text())
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def dockerfile(service: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) of the service's Dockerfile, in order."""
    text = (ROOT / compose()["services"][service]["build"]["dockerfile"]).read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return [(instruction, arguments.strip()) for instruction, arguments in pairs]


def copies(service: str) -> list[tuple[list[str], str]]:
    """(sources, destination) of each COPY."""
    words = [arguments.split() for instruction, arguments in dockerfile(service) if instruction == "COPY"]
    return [(each[:-1], each[-1]) for each in words]


def image_environment(service: str) -> dict[str, str]:
    words = [word for instruction, line in dockerfile(service) if instruction == "ENV" for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def argv(command: str | list[str]) -> list[str]:
    """The exec form of a CMD or a health check; the shell form goes to /bin/sh."""
    if isinstance(command, str):
        return argv(json.loads(command)) if command.startswith("[") else ["/bin/sh", "-c", command]
    if command[0] == "CMD-SHELL":
        return ["/bin/sh", "-c", *command[1:]]
    return command[1:] if command[0] == "CMD" else command


def seconds(duration: str) -> int:
    assert re.fullmatch(r"\d+s", duration), duration
    return int(duration[:-1])


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("files", [(), ("-f", "docker-compose.yml", "-f", "deploy/qdrant.compose.yml")])
def test_docker_compose_accepts_the_file(files: tuple[str, ...]) -> None:
    done = subprocess.run(["docker-compose", *files, "config", "-q"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_hadolint_finds_nothing_in_the_dockerfile(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / f"deploy/{name}.Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_only_the_sidecar_can_be_reached_and_only_from_this_machine() -> None:
    file = compose()
    torchserve, sidecar = file["services"]["torchserve"], file["services"]["sidecar"]
    assert set(file["services"]) == {"torchserve", "sidecar"}
    assert "ports" not in torchserve
    assert sidecar["ports"] == ["127.0.0.1:8090:8090"]
    assert torchserve["networks"] == ["inference"]
    assert sidecar["networks"] == ["inference", "outside"]
    assert file["networks"] == {"inference": {"internal": True}, "outside": {}}
    assert not {"network_mode", "expose", "links"} & (set(torchserve) | set(sidecar))
    # TorchServe's management and metrics stay where config.properties puts them.
    assert torchserve["environment"] == {"TS_INFERENCE_ADDRESS": "http://0.0.0.0:8080"}
    config = (ROOT / "config.properties").read_text()
    for name in ("management_address=http://", "metrics_address=http://", "grpc_inference_address="):
        assert f"\n{name}127.0.0.1" in config


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_a_container_may_do_nothing_but_its_work(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"[1-9]\d*g", service["mem_limit"])
    assert service["memswap_limit"] == service["mem_limit"]
    assert 256 <= service["pids_limit"] <= 4096
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "user", "entrypoint", "command"} & set(service)
    assert not [volume for volume in service["volumes"] if "docker.sock" in volume]


def test_both_containers_run_as_one_user_who_is_not_root() -> None:
    # One user, since the key file is readable by its owner only.
    users = {name: [line for word, line in dockerfile(name) if word == "USER"] for name in ("torchserve", "sidecar")}
    assert users == {"torchserve": ["10001:10001"], "sidecar": ["10001:10001"]}
    for name, folders in (("torchserve", "/state"), ("sidecar", "/state /data")):
        (made,) = (line for word, line in dockerfile(name) if word == "RUN" and "useradd" in line)
        assert "--uid 10001" in made
        assert made.endswith(f"install --directory --owner clip --group clip --mode 0700 {folders}")


def test_state_and_data_outlive_the_containers_and_the_sidecar_cannot_write_the_key_file() -> None:
    file = compose()
    assert file["volumes"] == {"state": {}, "data": {}}
    assert file["services"]["torchserve"]["volumes"] == ["./model_store:/model_store:ro", "state:/state"]
    assert file["services"]["sidecar"]["volumes"] == ["state:/state:ro", "data:/data"]


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_no_secret_is_in_an_environment_or_an_image(name: str) -> None:
    service = compose()["services"][name]
    arguments = [line.partition("=")[0] for word, line in dockerfile(name) if word == "ARG"]
    names = {*service["environment"], *service["build"]["args"], *image_environment(name), *arguments}
    secret = re.compile(r"TOKEN|SECRET|PASSW|KEY(?!_FILE$)|CREDENTIAL", re.IGNORECASE)
    assert not [each for each in names if secret.search(each)]


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_the_compose_file_and_the_dockerfile_agree_on_the_build_arguments(name: str) -> None:
    declared = dict(line.partition("=")[::2] for word, line in dockerfile(name) if word == "ARG" and "=" in line)
    given = compose()["services"][name]["build"]["args"]
    assert {key: value or "" for key, value in given.items()} == {
        key: value.strip('"') for key, value in declared.items()
    }


def test_the_build_sees_what_it_copies_and_no_more() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    def seen(path: str) -> bool:
        """Docker's rule: the last pattern that matches the path or a folder above it decides."""
        above = [path, *map(str, Path(path).parents)]
        verdict = True
        for pattern in patterns:
            bare = pattern.lstrip("!").removeprefix("**/")
            matched = any(fnmatch.fnmatch(each if "**/" not in pattern else Path(each).name, bare) for each in above)
            verdict = pattern.startswith("!") if matched else verdict
        return verdict

    sources = [source for name in ("torchserve", "sidecar") for paths, _ in copies(name) for source in paths]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if not seen(source.rstrip("/"))] == []
    private = (".git/config", ".env", "data/contents.sqlite", "run/torchserve/key_file.json", ".venv/pyvenv.cfg")
    unneeded = ("model_store/clip.mar", "tests/support/samples.py", "deploy/run.py", "handler/__pycache__/serve.pyc")
    assert [path for path in (*private, *unneeded) if seen(path)] == []


def test_the_sidecar_starts_after_torchserve_predicts() -> None:
    services = compose()["services"]
    assert services["sidecar"]["depends_on"] == {"torchserve": {"condition": "service_healthy"}}
    for service in services.values():
        check = service["healthcheck"]
        assert set(check) == {"test", "interval", "timeout", "retries", "start_period"}
        assert seconds(check["timeout"]) >= 10


@dataclass
class Container:
    """One service's commands as processes."""

    name: str
    workdir: Path
    substitutions: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    def __post_init__(self) -> None:
        for sources, destination in copies(self.name):
            for source in sources:
                if (ROOT / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / source, self.workdir / destination, ignore=ignored)
                else:
                    (self.workdir / destination).mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, self.workdir / destination)

    @property
    def service(self) -> dict[str, Any]:
        service: dict[str, Any] = compose()["services"][self.name]
        return service

    @property
    def log(self) -> Path:
        return self.workdir.with_name(f"{self.name}.log")

    def here(self, text: str) -> str:
        """A text written for the container, with its paths and addresses replaced by this machine's."""
        pattern = "|".join(rf"(?<!\w){re.escape(each)}\b" for each in self.substitutions)
        return re.sub(pattern, lambda found: self.substitutions[found[0]], text)

    @property
    def environment(self) -> dict[str, str]:
        # The container has no Java and no other tool on its PATH either.
        path = {"PATH": str(Path(sys.executable).parent)}
        given = {**image_environment(self.name), **self.service["environment"]}
        return path | {name: self.here(value) for name, value in given.items()}

    def start(self) -> None:
        (command,) = (line for word, line in dockerfile(self.name) if word == "CMD")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [self.here(word) for word in argv(command)],
                cwd=self.workdir,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def healthy(self) -> bool:
        check = self.service["healthcheck"]
        command = [self.here(word) for word in argv(check["test"])]
        done = subprocess.run(
            command, cwd=self.workdir, env=self.environment, capture_output=True, timeout=seconds(check["timeout"])
        )
        return done.returncode == 0

    def wait(self) -> None:
        deadline = time.monotonic() + seconds(self.service["healthcheck"]["start_period"])
        while not self.healthy():
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.2)

    def processes(self) -> list[int]:
        """The living processes of the container: those of the first one's session."""
        assert self.process is not None
        members = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(session) == self.process.pid and state != "Z":
                members.append(int(stat.parent.name))
        return members

    def stop(self) -> int:
        """SIGTERM to the first process, as the engine does it; its exit code, within the grace period."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds(self.service["stop_grace_period"]))

    def kill(self) -> None:
        if self.process is not None:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
            self.process.wait(10)


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
    decoders = len(os.sched_getaffinity(0))
    assert len(torchserve.processes()) == 3 + decoders  # the one that watches, Java, and its Python worker
    assert len(sidecar.processes()) == 2

    url = sidecar.here("http://0.0.0.0:8090")
    for number, text in enumerate((b"a cat on a roof", b"a ship at sea")):
        assert http("POST", f"{url}/add_content?id=c{number}&type=text", text, {}).status == 201
    found = json.loads(http("POST", f"{url}/retrieve?type=text&k=1", b"a ship at sea", {}).body)
    assert [hit["id"] for hit in found["contents"]] == ["c1"]

    # TorchServe's log has one line an event and nothing per request, and nothing is logged beside it ...
    key_file = Path(torchserve.here("/state/key_file.json"))
    assert {path.name for path in key_file.parent.iterdir()} == {"key_file.json", "lock", "tmp"}
    lines = torchserve.log.read_text().splitlines()
    assert [line for line in lines if "State change WORKER_STARTED -> WORKER_MODEL_LOADED" in line]
    assert [line for line in lines if re.search(r"INFO +MODEL_LOG: clip ready: model=clip-vit-b-32:untrained", line)]
    assert len(lines) < 40
    assert not [line for line in lines if "inference at" in line or "METRICS" in line or "/predictions" in line]
    # ... and its metrics, which it logs in another mode, are counted all the same.
    token = json.loads(key_file.read_text())["management"]["key"]
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
