"""docker-compose.yml as it is: what it keeps apart, what its calls answer, and that it comes back by itself."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..support.samples import PHOTOGRAPHS
from ..support.sidecar import ROOT
from . import engine
from .engine import Project
from .faults import FAULTS
from .load import Adds

pytestmark = [pytest.mark.servers, pytest.mark.containers, pytest.mark.timeout(900)]

_LOOK = """
import json, os, socket

def writable(path):
    try:
        open(path, "w").close()
        os.unlink(path)
        return True
    except OSError:
        return False

def reached(host, port):
    try:
        socket.create_connection((host, port), 5).close()
        return True
    except OSError:
        return False

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "capabilities": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privileges": int(status["NoNewPrivs"]),
    "writable": [each for each in ("/x", "/srv/x", "/etc/x", "/model_store/x", "/state/x", "/tmp/x") if writable(each)],
    "reached": [each for each in (8080, 8081, 8082, 7070, 7071) if reached("torchserve", each)],
}))
"""


def _look(project: Project, service: str) -> dict[str, Any]:
    found = json.loads(project.inside(service, _LOOK))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("service", ["torchserve", "sidecar"])
def test_inside_is_an_unprivileged_user_who_can_write_and_reach_what_it_needs(project: Project, service: str) -> None:
    inside = _look(project, service)
    assert inside["user"] == [10001, 10001]
    assert inside["capabilities"] == [0] * 5
    assert inside["no_new_privileges"] == 1
    # Its key file is TorchServe's to write, and the archive nobody's.
    assert inside["writable"] == {"torchserve": ["/state/x", "/tmp/x"], "sidecar": ["/tmp/x"]}[service]
    # Neither management nor metrics nor gRPC; TorchServe itself reaches its own, by its name, no better.
    assert inside["reached"] == [8080]


@pytest.mark.parametrize("service", ["torchserve", "sidecar"])
def test_the_engine_bounds_and_publishes_what_the_file_says(project: Project, service: str) -> None:
    host = project.inspect(service)["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["PidsLimit"] == 1024
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    ports = project.inspect(service)["NetworkSettings"]["Ports"]
    published = {name: [(each["HostIp"], each["HostPort"]) for each in bound] for name, bound in ports.items() if bound}
    assert published == ({"8090/tcp": [("127.0.0.1", str(project.port))]} if service == "sidecar" else {})


_REACHES = """
import socket
try:
    socket.create_connection(({host!r}, {port}), 10).close()
    print("reached")
except OSError as error:
    print(type(error).__name__)
"""


def test_the_port_is_this_machines_loopbacks_and_torchserve_reaches_no_other_network(project: Project) -> None:
    outside = f"{project.name}_outside"
    gateway = json.loads(engine.docker("network", "inspect", outside))[0]["IPAM"]["Config"][0]["Gateway"]
    with closing(socket.socket()) as asking:
        asking.settimeout(30)
        assert asking.connect_ex((gateway, project.port)) != 0  # another address of this machine's
    sidecar = project.inspect("sidecar")["NetworkSettings"]["Networks"][outside]["IPAddress"]

    def from_outside(host: str, port: int) -> str:
        program = _REACHES.format(host=host, port=port)
        other = ["run", "--rm", "--network", outside, "clip-sidecar", "python", "-c", program]
        return engine.docker(*other).strip()

    assert from_outside(sidecar, 8090) == "reached"
    assert from_outside("torchserve", 8080) == "gaierror"
    assert project.inside("torchserve", _REACHES.format(host=sidecar, port=8090)).strip() != "reached"


def test_the_calls_of_the_readme_answer_as_it_says(project: Project, tmp_path: Path) -> None:
    shutil.copy(next(path for path in PHOTOGRAPHS if path.suffix == ".jpg"), tmp_path / "photo.jpg")
    shutil.copy(ROOT / "README.md", tmp_path)
    (block,) = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    examples = re.findall(r"^\$ curl (.*)\n(\{.*\})$", block, re.MULTILINE)
    assert len(examples) >= 5
    for arguments, expected in examples:
        # A busy machine's 503 bears a Retry-After, which curl heeds; the file then holds the last answer alone.
        patient = "curl --silent --show-error --retry 20 --retry-max-time 200 --output answer"
        command = f"{patient} {arguments}".replace("127.0.0.1:8090", f"127.0.0.1:{project.port}")
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        answer, shown = json.loads((tmp_path / "answer").read_text()), json.loads(expected)
        assert set(answer) == set(shown), command
        assert answer.get("error", {}).get("code") == shown.get("error", {}).get("code"), command


@pytest.mark.parametrize("fault", FAULTS)
def test_it_comes_back_without_a_hand_and_nothing_acknowledged_is_missing(
    fault: str, project: Project, adds: Adds
) -> None:
    with adds:
        FAULTS[fault](project)
        seconds = adds.succeed()
    print(f"{fault}: {seconds:.1f} s to the next acknowledged add, {len(adds.acknowledged)} acknowledged")
    assert adds.missing() == []


def test_stop_under_load_ends_both_in_time_and_up_brings_back_what_was_acknowledged(
    project: Project, adds: Adds
) -> None:
    with adds:
        began = time.monotonic()
        project.compose("stop")
        took = time.monotonic() - began
    codes = {service: project.inspect(service)["State"]["ExitCode"] for service in ("torchserve", "sidecar")}
    assert codes == {"torchserve": 143, "sidecar": 0}  # 137 would be: killed when its grace period was over
    project.compose("down")
    project.up()
    print(f"stop took {took:.1f} s")
    assert adds.missing() == []
