"""API keys: what is kept of them, who changes them, and how soon a sidecar knows."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from index_sidecar.access import command
from index_sidecar.access.keys import Keys, KeysError, changed_keys, new_key, read_keys
from index_sidecar.access.roles import Caller, Role

from ..support.sidecar import ROOT


def keys_command(path: Path, *words: str) -> list[str]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words), path, path.with_name("used.json"))


def test_a_key_is_random_and_of_a_form_that_scanners_know() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"clipk_[0-9A-Za-z]{38}", key) for key in keys)


def test_only_its_sum_is_kept_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (key,) = keys_command(path, "add", "backend", "--role", "writer", "--user", "ada")
    text = path.read_text()
    assert key not in text
    assert key.removeprefix("clipk_")[:8] not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Keys(path).caller(key) == Caller("backend", Role.WRITER, "ada")


@pytest.mark.parametrize("change", [lambda key: key[:-1], lambda key: key + "x", lambda key: key.lower(), lambda _: ""])
def test_no_other_key_will_do(tmp_path: Path, change: object) -> None:
    path = tmp_path / "keys.json"
    (key,) = keys_command(path, "add", "backend", "--role", "writer")
    assert callable(change)
    assert Keys(path).caller(change(key)) is None


def test_an_expired_key_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (old,) = keys_command(path, "add", "old", "--role", "reader", "--expires", "2020-01-01")
    (new,) = keys_command(path, "add", "new", "--role", "reader", "--expires", "2999-12-31")
    keys = Keys(path)
    assert keys.caller(old) is None
    assert keys.caller(new) == Caller("new", Role.READER)


def test_a_running_sidecar_follows_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = Keys(path)
    (key,) = keys_command(path, "add", "backend", "--role", "admin")
    time.sleep(0.6)
    assert keys.caller(key) == Caller("backend", Role.ADMIN)
    keys_command(path, "revoke", "backend")
    time.sleep(0.6)
    assert keys.caller(key) is None


def test_each_change_of_keys_is_on_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.json"
    keys = Keys(path)
    with caplog.at_level(logging.INFO):
        for words in (("add", "ada", "--role", "reader"), ("add", "bob", "--role", "admin"), ("revoke", "ada")):
            keys_command(path, *words)
            time.sleep(0.6)
            assert keys.caller("nobody's") is None
    records = [record for record in caplog.records if record.name == "index_sidecar.audit"]
    told = [(record.message, record.__dict__["key"]) for record in records]
    assert told == [("API key added", "ada"), ("API key added", "bob"), ("API key revoked", "ada")]


def test_a_file_broken_by_hand_takes_nobodys_key_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.json"
    (key,) = keys_command(path, "add", "backend", "--role", "admin")
    keys = Keys(path)
    path.write_text("{")
    time.sleep(0.6)
    assert keys.caller(key) == Caller("backend", Role.ADMIN)
    time.sleep(0.6)
    assert keys.caller(key) == Caller("backend", Role.ADMIN)
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # told once
    with pytest.raises(KeysError, match="is no file of keys"):
        Keys(path)


def test_the_list_shows_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (key,) = keys_command(path, "add", "ada", "--role", "writer", "--user", "ada", "--expires", "2999-12-31")
    Keys(path, last_used=tmp_path / "used.json").caller(key)
    head, row = keys_command(path, "list")
    assert head.split() == ["NAME", "ROLE", "USER", "CREATED", "EXPIRES", "LAST", "USED"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert row.split()[:4] == ["ada", "writer", "ada", today]
    assert row.split()[5:7] == ["3000-01-01", "00:00"]
    assert row.split()[7] == today
    assert key[6:14] not in row


def test_names_are_taken_once_and_only_known_ones_are_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys_command(path, "add", "backend", "--role", "reader")
    with pytest.raises(KeysError, match="there is a key named backend: revoke it first"):
        keys_command(path, "add", "backend", "--role", "admin")
    with pytest.raises(KeysError, match="there is no key named front"):
        keys_command(path, "revoke", "front")
    assert [key.role for key in read_keys(path)] == [Role.READER]


def test_many_at_once_lose_none(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from index_sidecar.access.command import add_key;"
        "from index_sidecar.access.roles import Role\n"
        "for n in range(10): add_key(Path(sys.argv[1]), f'{sys.argv[2]}-{n}', Role.READER, None, None)"
    )
    path = tmp_path / "keys.json"
    many = [subprocess.Popen([sys.executable, "-c", script, path, str(number)], cwd=ROOT) for number in range(4)]
    assert [process.wait(30) for process in many] == [0] * 4
    assert len({key.name for key in read_keys(path)}) == 40


def test_a_failed_change_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys_command(path, "add", "backend", "--role", "reader")
    before = path.read_bytes()

    def change_and_fail() -> None:
        with changed_keys(path) as keys:
            keys.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change_and_fail()
    assert path.read_bytes() == before


def test_the_first_key_comes_from_a_secret(tmp_path: Path) -> None:
    secret = tmp_path / "admin_key"
    secret.write_text("s" * 40 + "\n")
    assert Keys(tmp_path / "none.json", secret).caller("s" * 40) == Caller("admin-key-file", Role.ADMIN)
    secret.write_text("short")
    with pytest.raises(KeysError, match="can be guessed"):
        Keys(tmp_path / "none.json", secret)


def test_the_command_as_a_process(tmp_path: Path) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path / "data")}
    run = [sys.executable, "-m", "index_sidecar", "keys"]
    done = subprocess.run(
        [*run, "add", "x", "--role", "admin"], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"clipk_[0-9A-Za-z]{38}\n", done.stdout)
    assert [row["name"] for row in json.loads((tmp_path / "data" / "keys.json").read_text())["keys"]] == ["x"]
    done = subprocess.run([*run, "revoke", "y"], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "index_sidecar: there is no key named y: `keys list` shows those there are\n"
