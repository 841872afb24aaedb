"""The name of this machine's processor, to be written beside what it was measured with."""

from __future__ import annotations

from pathlib import Path


def cpu_name() -> str:
    """As the kernel tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
