"""What is done to containers: each takes the project and returns when it is done, and not when it is mended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from . import engine
from .engine import Project

JAVA, WORKER, SIDECAR = "ModelServer", "model_service_worker", "-m index_sidecar"

# Takes memory beyond the container's bound, step by step; the servers are those that the kernel prefers to end.
_HOG = """
held = []
try:
    for _ in range({megabytes} // 16):
        held.append(bytearray(b"x") * (16 << 20))
except MemoryError:
    pass
"""


def _send(number: signal.Signals, service: str, words: str) -> Callable[[Project], None]:
    return lambda project: os.kill(project.process(service, words), number)


def _first_process(service: str) -> Callable[[Project], None]:
    return lambda project: os.kill(project.inspect(service)["State"]["Pid"], signal.SIGKILL)


def _out_of_memory(service: str, words: str, megabytes: int) -> Callable[[Project], None]:
    def act(project: Project) -> None:
        servers = project.processes(service, words)
        assert servers
        for pid in servers:
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        # Whether the program ends by itself or with the container is all the same.
        command = ["exec", f"{project.name}-{service}-1", "python", "-c", _HOG.format(megabytes=megabytes)]
        engine.run(*command)
        engine.until(lambda: not set(servers) & set(map(int, filter(str.isdigit, os.listdir("/proc")))), 60)

    return act


def _replace(service: str) -> Callable[[Project], None]:
    """As docs/containers.md upgrades one at a time."""
    words = ("up", "--detach", "--wait", "--no-deps", "--no-build", "--force-recreate", service)

    def act(project: Project) -> None:
        project.compose(*words)

    return act


FAULTS: Mapping[str, Callable[[Project], None]] = {
    "the sidecar is killed": _send(signal.SIGKILL, "sidecar", SIDECAR),
    "Java is killed": _send(signal.SIGKILL, "torchserve", JAVA),
    "the worker is killed": _send(signal.SIGKILL, "torchserve", WORKER),
    "the sidecar's first process is killed": _first_process("sidecar"),
    "TorchServe's first process is killed": _first_process("torchserve"),
    "the sidecar is stopped": _send(signal.SIGSTOP, "sidecar", SIDECAR),
    "Java is stopped": _send(signal.SIGSTOP, "torchserve", JAVA),
    "TorchServe is replaced": _replace("torchserve"),
    "the sidecar is replaced": _replace("sidecar"),
    "the sidecar is out of memory": _out_of_memory("sidecar", SIDECAR, 1024),
    "TorchServe is out of memory": _out_of_memory("torchserve", WORKER, 3072),
}
