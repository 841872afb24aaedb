"""README.md is true: its examples run as they stand there, its commands and paths exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .support.real_servers import RealSidecar, TorchServe
from .support.samples import PHOTOGRAPHS
from .support.sidecar import ROOT

README = (ROOT / "README.md").read_text()
END = "-- end of example --"


def _examples() -> list[tuple[str, str]]:
    """(command, output) of every `$` line in a console block, in order."""
    examples = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = example.partition("\n")
            examples.append((command, output.strip()))
    return examples


def _shape(text: str) -> Any:
    """What an answer says, without what differs from run to run."""
    answer = json.loads(text) if text else None

    def blank(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: blank(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [blank(each) for each in value]
        if isinstance(value, float) or name == "request_id":
            return type(value).__name__
        return value

    return blank(answer)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_answer_as_they_say(torchserve: TorchServe, real_sidecar: RealSidecar, tmp_path: Path) -> None:
    shutil.copy(next(path for path in PHOTOGRAPHS if path.suffix == ".jpg"), tmp_path / "photo.jpg")
    shutil.copy(ROOT / "README.md", tmp_path)
    key_file = tmp_path / "run" / "torchserve" / "key_file.json"
    key_file.parent.mkdir(parents=True)
    shutil.copy(torchserve.key_file, key_file)
    ports = {"8090": real_sidecar.port, "8080": torchserve.ports[0], "8081": torchserve.ports[1]}
    examples = _examples()
    script = "".join(f"{command}\necho '\n{END}'\n" for command, _ in examples).replace("curl ", "curl --silent ")
    for port, ours in ports.items():
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
    done = subprocess.run(["bash", "-eu"], input=script, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    outputs = done.stdout.split(END)[:-1]
    assert len(outputs) == len(examples) > 10
    for (command, expected), output in zip(examples, outputs, strict=True):
        assert _shape(output.strip()) == _shape(expected), command


def test_the_make_targets_exist() -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    targets = set(re.findall(r"make ([a-z]+)", blocks)) | set(re.findall(r"`make ([a-z]+)", README))
    assert {"demo", "test", "mar", "run"} <= targets
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= known


def test_the_paths_exist() -> None:
    paths = re.findall(r"`((?:handler|index_sidecar|deploy|tests|bench)/[\w./-]+)`", README)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for module in re.findall(r"`(\w+\.py)`", README):
        assert list((ROOT / "index_sidecar").rglob(module)), module
