"""The archive in real containers: the compose files as they are, on the engine that engine.sh starts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..support.real_servers import free_ports
from ..support.sidecar import ROOT

SCRIPT = Path(__file__).with_name("engine.sh")
UNAVAILABLE = 69
LONGEST_S = 240  # of a start or a return; a machine that much else shares needs long
DEAF_S = 10  # SERVE_DEAF_S here: the default's three minutes are too long for a test
BOUNDS = {"TORCHSERVE_MEMORY": "3g", "SIDECAR_MEMORY": "1g"}  # of memory: small, to go beyond them
_WORK = Path(os.environ.get("CONTAINERS_WORK", "/var/tmp/clip-containers"))
ENVIRONMENT = os.environ | {"DOCKER_HOST": f"unix://{_WORK}/engine/sock", "DOCKER_CONFIG": str(_WORK / "client")}


def start() -> str | None:
    """Start the engine and build the images, where that is not done yet; why it cannot be, when it cannot."""
    done = subprocess.run([SCRIPT, "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode == UNAVAILABLE:
        return done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout
    return None


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A command of docker's, whatever comes of it."""
    command = ["docker", *words]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)


def docker(*words: str) -> str:
    """What a command of docker's prints."""
    done = run(*words)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def until(what: Callable[[], bool], within_s: float = LONGEST_S) -> None:
    """Wait for it."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)


@dataclass
class Project:
    """One run of docker-compose.yml and its overrides, under a name and a port of its own."""

    name: str
    folder: Path
    """Empty; what differs from a plain run is put there."""
    model_store: Path
    files: Sequence[str] = ()
    """Overrides, below the repository."""
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        # The folder of the archive, shorter waits, and nothing else.
        watched = {"environment": {"SERVE_DEAF_S": str(DEAF_S)}, "healthcheck": {"interval": "2s"}}
        torchserve = watched | {"volumes": [f"{self.model_store}:/model_store:ro"]}
        override = {"services": {"torchserve": torchserve, "sidecar": watched}}
        (self.folder / "here.yml").write_text(yaml.safe_dump(override))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def compose(self, *words: str) -> str:
        """What a command of compose's prints."""
        files = ["docker-compose.yml", *self.files, str(self.folder / "here.yml")]
        command = ["docker", "compose", "--project-name", self.name]
        command += [word for file in files for word in ("--file", file)]
        environment = ENVIRONMENT | {"PUBLISH_PORT": str(self.port)} | self.environment
        done = subprocess.run(
            [*command, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"compose {' '.join(words)}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The last lines of each container, for a failure."""
        containers = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}")
        command = 'for each in "$@"; do docker logs --tail 15 $each 2>&1; done'
        shown = subprocess.run(
            ["sh", "-c", command, "sh", *containers.split()], env=ENVIRONMENT, capture_output=True, text=True
        )
        return f"\n{shown.stdout}"

    def up(self) -> None:
        self.compose("up", "--detach", "--wait", "--no-build", "--wait-timeout", str(LONGEST_S))

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        (found,) = json.loads(docker("inspect", f"{self.name}-{service}-1"))
        assert isinstance(found, dict)
        return found

    def inside(self, service: str, program: str) -> str:
        """What a Python program prints in a service's container, as its user."""
        return docker("exec", f"{self.name}-{service}-1", "python", "-c", program)

    def processes(self, service: str, words: str) -> list[int]:
        """The host's numbers of a container's processes whose command line has `words`."""
        lines = docker("top", f"{self.name}-{service}-1", "-eo", "pid,args").splitlines()[1:]
        return [int(line.split()[0]) for line in lines if words in line]

    def process(self, service: str, words: str) -> int:
        """The oldest of them: those that it forked came later."""
        return min(self.processes(service, words))


@contextlib.contextmanager
def running(project: Project) -> Iterator[Project]:
    """Up, and gone with all its volumes in the end."""
    try:
        project.up()
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "10")
