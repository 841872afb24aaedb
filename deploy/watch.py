"""Run a server as its parent: pass signals on, share its fate, and end it when it lives but answers nothing.

Nobody replaces a server that is stopped, deadlocked, or has given up its worker: compose calls it unhealthy and leaves
it. So each server's first process, in its container as in a terminal, is this one. It asks the server again and again,
and kills it when it has been deaf for too long; whoever supervises this process (the container engine, Kubernetes,
systemd) then starts it anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_LONGEST_ASKING_S = 30.0
_LONGEST_PAUSE_S = 15.0
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Check = Callable[[float], str | None]
"""Seconds to wait for an answer -> why there was none; None when the server answered."""


@dataclass(frozen=True)
class Patience:
    """How long a server may give no answer: until its first one, and from then on. Infinity: for ever."""

    start_s: float
    deaf_s: float


def seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    """A setting of whole seconds, 0 for infinity. Exits with a message when it is no such number."""
    value = environment.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) <= 6):
        sys.exit(f"{name}={value!r} must be a whole number of seconds; 0: wait for ever")
    return int(value) or math.inf


def die_with(parent: int, number: int) -> None:
    """Let the kernel send us the signal `number` when the process `parent`, which started us, is gone (on Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it was gone before we asked
            os.kill(os.getpid(), number)


def run(
    name: str,
    command: Sequence[str],
    check: Check,
    patience: Patience,
    working_folder: Path | None = None,
    keep_open: Sequence[int] = (),
) -> int:
    """Start `command` and wait for its end: its exit code, minus the signal that ended it, or 1 when it was deaf.

    The server gets a process group of its own, so that Ctrl-C reaches it through us and once; what is left of the group
    at its end is killed. When we are killed, the kernel kills it.
    """
    server: subprocess.Popen[bytes] | None = None
    told_to_stop = False

    def stop(*_: object) -> None:
        nonlocal told_to_stop
        first, told_to_stop = not told_to_stop, True
        if first and server is not None:
            server.terminate()

    for number in _FORWARDED:
        signal.signal(number, stop)
    us = os.getpid()
    server = subprocess.Popen(
        command,
        cwd=working_folder,
        stdin=subprocess.DEVNULL,
        pass_fds=keep_open,
        process_group=0,
        preexec_fn=lambda: die_with(us, signal.SIGKILL),  # no thread runs yet
    )
    if told_to_stop:  # meanwhile
        server.terminate()
    deaf = threading.Event()
    threading.Thread(target=_ask, args=(name, server, check, patience, deaf), daemon=True).start()
    code = server.wait()
    _kill_group(server)
    return 1 if deaf.is_set() else code


def end_as(code: int) -> NoReturn:
    """End this process as `run` says that the server ended."""
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)  # a container's first process survives this
        sys.exit(128 - code)
    sys.exit(code)


def _ask(name: str, server: subprocess.Popen[bytes], check: Check, patience: Patience, deaf: threading.Event) -> None:
    """Ask until the server was silent for too long; then kill it."""
    limit_s, silent_s = patience.start_s, 0.0
    asking_s = min(_LONGEST_ASKING_S, max(1.0, patience.deaf_s / 4))
    pause_s = min(_LONGEST_PAUSE_S, patience.deaf_s / 10)
    while True:
        before = time.monotonic()
        reason = check(asking_s)
        time.sleep(pause_s if reason is None else min(1.0, pause_s))
        if reason is None:
            limit_s, silent_s = patience.deaf_s, 0.0
            continue
        # Where the whole machine or container was paused, that time is nobody's silence.
        silent_s += min(time.monotonic() - before, asking_s + 2)
        if silent_s > limit_s:
            deaf.set()
            print(
                f"{name} lives, but has not answered for {silent_s:.0f} s ({reason}): it is killed, to be started anew",
                file=sys.stderr,
                flush=True,
            )
            _kill_group(server)
            return


def _kill_group(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
