"""What is written down is true: its examples run as they stand there; its commands, paths and settings exist.

The examples are the `console` blocks of each document; what cannot be run by itself stands in another kind of block.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .support.real_servers import RealSidecar, TorchServe
from .support.samples import PHOTOGRAPHS
from .support.sidecar import ADMIN_KEY, ROOT

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("bench/*.md")]
)
END = "-- end of example --"
DIFFERS = {"request_id", "model", "version", "next"}  # from run to run, or from release to release
SOURCES = ("index_sidecar", "handler", "deploy", "bench", "tests", "docs", ".ci")
KINDS = ("*.py", "*.yml", "*.yaml", "*.Dockerfile", "*.sh", "run")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _examples(document: Path) -> list[tuple[str, str]]:
    """(command, output) of every `$` line in a console block, in order."""
    examples = []
    for block in re.findall(r"```console\n(.*?)```", document.read_text(), re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = example.split("\n")
            last = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
            examples.append(("\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :]).strip()))
    return examples


def _values(text: str) -> Iterator[Any]:
    """The JSON values of an answer, one after the other over however many lines; a line that is none, as it is."""
    while text := text.lstrip():
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except json.JSONDecodeError:
            value, end = text.splitlines()[0], len(text.splitlines()[0])
        yield value
        text = text[end:]


def _shape(text: str) -> list[Any]:
    """What an answer says, without what differs from run to run."""

    def blank(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: blank(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [blank(each) for each in value]
        if isinstance(value, float) or name in DIFFERS:
            return type(value).__name__
        return value

    return [blank(value) for value in _values(text)]


ABOUT_KEYS = ROOT / "docs" / "access.md"
WITH_EXAMPLES = [path for path in DOCUMENTS if _examples(path)]


def test_documents_are_found() -> None:
    assert {"README.md", "docs/operating.md"} <= set(map(_name, WITH_EXAMPLES))
    assert {"docs/architecture.md", "docs/decisions.md", "CHANGELOG.md"} <= set(map(_name, DOCUMENTS))


@pytest.mark.servers
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("access", ["open", "keys"])
@pytest.mark.parametrize("document", [path for path in WITH_EXAMPLES if path != ABOUT_KEYS], ids=_name)
def test_the_examples_answer_as_they_say(document: Path, access: str, torchserve: TorchServe, tmp_path: Path) -> None:
    """With keys, too, when each call shows one."""
    headers = f"--header 'Authorization: Bearer {ADMIN_KEY}' " if access == "keys" else ""
    _try_examples(document, torchserve, tmp_path, access, headers)


@pytest.mark.servers
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_about_keys_answer_as_they_say(torchserve: TorchServe, tmp_path: Path) -> None:
    _try_examples(ABOUT_KEYS, torchserve, tmp_path, "keys", "")


def _try_examples(document: Path, torchserve: TorchServe, tmp_path: Path, access: str, headers: str) -> None:
    """Run them in one shell, where the sidecar's calls bear `headers`."""
    shutil.copy(next(path for path in PHOTOGRAPHS if path.suffix == ".jpg"), tmp_path / "photo.jpg")
    shutil.copy(ROOT / "README.md", tmp_path)
    key_file = tmp_path / "run" / "torchserve" / "key_file.json"
    key_file.parent.mkdir(parents=True)
    shutil.copy(torchserve.key_file, key_file)
    (tmp_path / "admin-key").write_text(ADMIN_KEY)
    examples = _examples(document)
    commands = [command.replace("curl ", "curl --silent ") for command, _ in examples]
    commands = [each.replace("curl ", f"curl {headers}") if ":8090" in each else each for each in commands]
    script = "".join(f"{command}\necho '\n{END}'\n" for command in commands)
    environment = {"ACCESS": access, "ADMIN_KEY_FILE": str(tmp_path / "admin-key")}
    with RealSidecar(torchserve, tmp_path / "data", **environment) as sidecar:
        sidecar.start()
        ports = {"8090": sidecar.port, "8080": torchserve.ports[0], "8081": torchserve.ports[1]}
        for port, ours in ports.items():
            script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        here = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / "data")}
        done = subprocess.run(
            ["bash", "-eu"], input=script, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    outputs = done.stdout.split(END)[:-1]
    assert len(outputs) == len(examples)
    for (command, expected), output in zip(examples, outputs, strict=True):
        assert _shape(output.strip()) == _shape(expected), command


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_the_make_targets_exist(document: Path) -> None:
    text = document.read_text()
    blocks = "\n".join(re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL))
    targets = set(re.findall(r"\bmake ([a-z]+)", blocks)) | set(re.findall(r"`make ([a-z]+)", text))
    assert targets <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_the_paths_exist(document: Path) -> None:
    text = document.read_text()
    paths = re.findall(rf"`((?:{'|'.join(map(re.escape, SOURCES))})/[\w./-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    modules = {module for module in re.findall(r"`(\w+\.py)`", text) if not (ROOT / module).exists()}
    known = {path.name for source in SOURCES for path in (ROOT / source).rglob("*.py")}
    assert modules <= known
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (document.parent / link).exists()] == []


@cache
def _words() -> set[str]:
    """Of all sources, as they stand there and in capitals."""
    files = [path for source in SOURCES for kind in KINDS for path in (ROOT / source).rglob(kind)]
    files += [ROOT / name for name in ("Makefile", "config.properties", "docker-compose.yml")]
    return {each for path in files for word in re.findall(r"\w+", path.read_text()) for each in (word, word.upper())}


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=_name)
def test_the_settings_exist(document: Path) -> None:
    names = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", document.read_text()))
    outside = {
        "OMP_NUM_THREADS",
        "OTEL_TRACES_SAMPLER",
        "TS_ENABLE_MODEL_API",
        "SSL_CERT_FILE",
        "TCP_QUICKACK",
        "PR_SET_PDEATHSIG",
    }  # read by what we stand on
    assert names - _words() - outside == set()
