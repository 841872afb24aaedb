"""The first process of a server: it ends as its server ends, and ends a server that lives but answers nothing."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from deploy import watch
from deploy.sidecar import check

from ..support.real_servers import free_ports
from ..support.sidecar import ROOT

pytestmark = pytest.mark.servers

# A server that writes its process id and its child's to a file, then answers every connection with one byte.
SERVER = """
import pathlib, signal, socket, subprocess, sys, time
port, file = int(sys.argv[1]), pathlib.Path(sys.argv[2])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
signal.signal(signal.SIGTERM, lambda *_: (child.kill(), sys.exit(7)))
time.sleep(float(sys.argv[3]))
listener = socket.create_server(("127.0.0.1", port))
file.write_text(f"{__import__('os').getpid()} {child.pid}")
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    connection.close()
"""
WATCH = """
import sys
from deploy import watch
from deploy.sidecar import check
start_s, deaf_s, port = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
command = [sys.executable, "-c", *sys.argv[4:]]
watch.end_as(watch.run("the server", command, check("127.0.0.1", port), watch.Patience(start_s, deaf_s)))
"""


class Watched:
    """A watching process and the two it is responsible for."""

    def __init__(self, folder: Path, start_s: float = math.inf, deaf_s: float = 2, starts_after_s: float = 0) -> None:
        (port,) = free_ports(1)
        self._file = folder / "pids"
        arguments = [str(start_s), str(deaf_s), str(port), SERVER, str(port), str(self._file), str(starts_after_s)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WATCH, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )

    def servers(self) -> list[psutil.Process]:
        deadline = time.monotonic() + 20
        while not self._file.exists() or not self._file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return [psutil.Process(int(pid)) for pid in self._file.read_text().split()]

    def ends(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


def test_it_ends_with_its_server_s_exit_code_when_it_is_stopped(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        folder = tmp_path / str(int(number))
        folder.mkdir()
        watched = Watched(folder)
        servers = watched.servers()
        watched.process.send_signal(number)
        assert watched.ends() == (7, "")
        assert psutil.wait_procs(servers, 5)[1] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_it_ends_by_the_signal_that_ended_its_server_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    watched = Watched(tmp_path)
    servers = watched.servers()
    servers[0].send_signal(number)
    assert watched.ends() == (-number, "")
    assert psutil.wait_procs(servers, 5)[1] == []


def test_a_server_dies_with_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    server, started_by_it = watched.servers()
    watched.process.kill()
    assert psutil.wait_procs([server], 5)[1] == []
    started_by_it.kill()  # TorchServe's worker ends by itself when Java is gone
    assert watched.ends()[0] == -signal.SIGKILL


def test_a_stopped_server_is_killed_with_all_it_started(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    servers = watched.servers()
    time.sleep(3)  # longer than it may be deaf
    assert watched.process.poll() is None
    servers[0].suspend()
    before = time.monotonic()
    code, errors = watched.ends()
    assert code == 1
    assert "the server lives, but has not answered for" in errors
    assert 1.5 < time.monotonic() - before < 10
    assert psutil.wait_procs(servers, 5)[1] == []


def test_its_start_is_waited_for_and_bounded_where_it_is_said(tmp_path: Path) -> None:
    watched = Watched(tmp_path, deaf_s=1, starts_after_s=4)
    assert len(watched.servers()) == 2  # after four times as long as it may be deaf later
    watched.process.terminate()
    assert watched.ends()[0] == 7
    (tmp_path / "never").mkdir()
    never = Watched(tmp_path / "never", start_s=1, deaf_s=1, starts_after_s=60)
    assert never.ends()[0] == 1


def test_a_short_silence_is_forgiven(tmp_path: Path) -> None:
    watched = Watched(tmp_path, deaf_s=4)
    server, _ = watched.servers()
    for _ in range(4):  # together longer than it may be deaf
        server.suspend()
        time.sleep(1.5)
        server.resume()
        time.sleep(1.5)
    assert watched.process.poll() is None
    watched.process.terminate()
    assert watched.ends() == (7, "")


def test_a_child_of_a_process_that_is_gone_already_gets_its_signal() -> None:
    ended = threading.Event()
    old = signal.signal(signal.SIGUSR1, lambda *_: ended.set())
    try:
        watch.die_with(os.getpid(), signal.SIGUSR1)  # not our parent
        assert ended.wait(1)
    finally:
        watch.die_with(os.getppid(), 0)
        signal.signal(signal.SIGUSR1, old)


def test_the_sidecar_answers_with_any_status_or_hangs_up_but_must_not_be_silent(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    assert "ConnectionRefused" in str(check("0.0.0.0", port)(1))
    assert check("127.0.0.1", 0)(1) is None


def test_wrong_seconds_are_named() -> None:
    assert watch.seconds({}, "SERVE_DEAF_S", 180) == 180
    assert watch.seconds({"SERVE_DEAF_S": "0"}, "SERVE_DEAF_S", 180) == math.inf
    for value in ("", "-1", "1.5", "ten", "1000000"):
        with pytest.raises(SystemExit, match="must be a whole number of seconds"):
            watch.seconds({"SERVE_DEAF_S": value}, "SERVE_DEAF_S", 180)
