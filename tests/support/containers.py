"""Containers as plain processes: what their Dockerfiles and the compose file say, without an engine.

A container is imitated as far as processes go: its working folder holds what its Dockerfile copies and nothing else,
its environment is what the Dockerfile and the compose file set and nothing else, and its paths and addresses are
replaced by folders and free ports of this machine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

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
