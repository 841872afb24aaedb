"""The command `clip-archive`: what it prints, for people and for programs, and its exit status."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stamina
from click.testing import CliRunner, Result

from clip_archive.command.main import main
from clip_archive.lines import CursorLine
from clip_archive.writing import ExportFile

from ..support.fake_torchserve import PNG
from ..support.sidecar import AUTHORIZATION, Sidecar, free_port, running, with_keys

COMMANDS = sorted(main.commands)


class Shell:
    """Runs the command against one archive, in a thread beside the archive's loop."""

    def __init__(self, url: str, key: str) -> None:
        self._environment = {"CLIP_ARCHIVE_URL": url, "CLIP_ARCHIVE_KEY": key}

    async def __call__(self, *arguments: str | Path, stdin: str | bytes | None = None, **environment: str) -> Result:
        told = [str(each) for each in arguments]
        runner = CliRunner(env=self._environment | environment)
        return await asyncio.to_thread(runner.invoke, main, told, input=stdin)


@pytest.fixture
def shell(sidecar: Sidecar) -> Shell:
    return Shell(sidecar.url, AUTHORIZATION.get("Authorization", "").removeprefix("Bearer "))


async def test_a_first_day(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG + b"cat")
    done = await shell("add", tmp_path / "cat.png", "--user", "ada", "--metadata", '{"title": "Cat"}')
    assert (done.exit_code, done.stdout) == (0, "cat.png: image added\n")
    done = await shell("add", "-", "--id", "words", stdin="a cat on a roof\n")
    assert "words: text added" in done.stdout
    done = await shell("search", "a cat on a roof\n", "--type", "text")
    assert done.stdout.splitlines()[0].split() == ["SCORE", "RELEVANCE", "TYPE", "ID", "USER"]
    assert "words" in done.stdout.splitlines()[1]
    done = await shell("search", tmp_path / "cat.png", "--less", "a dog", "--json", "-k", "1")
    assert json.loads(done.stdout)["id"] == "cat.png"
    done = await shell("search", "-", "--json", stdin="a cat on a roof")
    assert {json.loads(line)["id"] for line in done.stdout.splitlines()} == {"words", "cat.png"}
    only = '{"must": [{"key": "title", "match": {"value": "Cat"}}]}'
    assert "words" not in (await shell("search", "a cat", "--filter", only)).stdout
    assert "cat.png" in (await shell("similar", "words")).stdout
    assert "title     Cat" in (await shell("show", "cat.png")).stdout
    done = await shell("show", "words", "--preview", tmp_path / "preview.txt")
    assert (tmp_path / "preview.txt").read_text() == "a cat on a roof\n"
    assert [line.split()[-2:] for line in (await shell("list")).stdout.splitlines()] == [
        ["cat.png", "ada"],
        ["text", "words"],
    ]
    assert len((await shell("list", "-n", "1", "--json")).stdout.splitlines()) == 1
    done = await shell("recommend", "ada")
    assert "words" in done.stdout
    assert "1 texts, 1 images" in (await shell("status")).stdout
    assert (await shell("open", "--print")).stdout.endswith("/\n")
    assert (await shell("delete", "words")).stdout == "words: erased\n"
    assert (await shell("delete-user", "ada", stdin="n\n")).exit_code == 1
    assert (await shell("delete-user", "ada", "--yes")).stdout == "1 contents of ada erased\n"
    assert (await shell("list")).stdout == ""


async def test_exit_statuses_tell(shell: Shell, settings: Any, tmp_path: Path) -> None:
    assert (await shell("show", "nothing")).exit_code == 1
    assert (await shell("search")).exit_code == 2
    assert (await shell("list", "--filter", "{")).exit_code == 2
    assert (await shell("list", "--url", "no address")).exit_code == 2
    assert (await shell("add", "-")).exit_code == 2
    (tmp_path / "empty").mkdir()
    assert (await shell("import", tmp_path / "empty")).exit_code == 1
    assert (await shell("import", tmp_path / "gone")).exit_code == 1
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("words")
    (tmp_path / "in" / "b.png").write_text("no picture")
    done = await shell("import", tmp_path / "in", "--json")
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert (told["found"], told["added"], told["failed"]) == (2, 1, 1)
    assert Path(told["letters"]).exists()
    async with running(with_keys(replace(settings, data_dir=tmp_path / "closed"))) as closed:
        done = await shell("list", CLIP_ARCHIVE_URL=closed.url, CLIP_ARCHIVE_KEY="")
        assert (done.exit_code, "CLIP_ARCHIVE_KEY" in done.stderr) == (5, True)


async def test_nobody_is_there(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with stamina.set_testing(True, attempts=1):
        done = await shell("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert (done.exit_code, "cannot be reached" in done.stderr) == (4, True)


async def test_what_is_stored_cannot_rule_a_terminal(shell: Shell, sidecar: Sidecar) -> None:
    await sidecar.add("a", b"words", metadata=json.dumps({"title": "\x1b[2Jgone"}))
    shown = (await shell("show", "a")).stdout
    assert "\x1b" not in shown
    assert "[2Jgone" in shown


async def test_an_export_goes_through_a_pipe_into_files_and_into_numpy(
    shell: Shell, sidecar: Sidecar, tmp_path: Path
) -> None:
    np = pytest.importorskip("numpy")
    for number in range(3):
        await sidecar.add(f"{number}", f"text {number}".encode())
    lines = (await shell("export")).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["0", "1", "2"]
    done = await shell("export", tmp_path / "x.ndjson", "--vectors")
    assert done.stdout == f"3 contents written to {tmp_path / 'x.ndjson'}\n"
    assert not (tmp_path / "x.ndjson.part").exists()
    assert (await shell("export", tmp_path / "np", "--numpy")).exit_code == 0
    vectors = np.load(tmp_path / "np" / "vectors.npy")
    assert vectors.shape == (3, 512)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert len((tmp_path / "np" / "contents.jsonl").read_text().splitlines()) == 3
    for number in range(3):
        await shell("delete", f"{number}")
    assert "3 added" in (await shell("import", tmp_path / "x.ndjson")).stdout
    assert (await sidecar.found(b"text 2", k="1")) == ["2"]


def test_a_file_goes_on_behind_its_last_cursor(tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(b'{"id":"a"}\n{"id":"b"}\n{"after":"7"}\n{"id":"c"}\n{"id":')
    file = ExportFile(tmp_path / "x")
    assert (file.after, file.count) == ("7", 2)
    with pytest.raises(OSError, match="full"), file:
        raise OSError("full")
    assert part.read_bytes() == b'{"id":"a"}\n{"id":"b"}\n{"after":"7"}\n'
    with ExportFile(tmp_path / "x") as file:
        file.write(b'{"id":"c"}', CursorLine("x"))  # type: ignore[arg-type]
    assert (tmp_path / "x").read_bytes().endswith(b'{"id":"c"}\n')
    assert not part.exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_teaches_by_example(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    if name != "keys":
        assert f"clip-archive {name} " in done.stdout or f"clip-archive {name}\n" in done.stdout


def test_it_completes() -> None:
    done = CliRunner(
        env={"_CLIP_ARCHIVE_COMPLETE": "bash_complete", "COMP_WORDS": "clip-archive se", "COMP_CWORD": "1"}
    )
    assert "search" in done.invoke(main, [], prog_name="clip-archive").stdout


def test_the_head_of_a_pipe_may_end_it(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", "python -m clip_archive --help | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": "."},
    )
    assert "Traceback" not in done.stderr
