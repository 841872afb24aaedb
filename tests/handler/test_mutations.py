"""The short form of `python -m bench.mutations`: broken files and texts get a refusal, in bounded time and memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..support.sidecar import ROOT


@pytest.mark.slow
def test_broken_files_and_odd_texts_are_read_or_refused() -> None:
    # In a process of its own: what it measures are its children.
    command = [sys.executable, "-m", "bench.mutations", "--count", "25", "--texts", "100"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "handler")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "every rule held"), done.stdout + done.stderr
