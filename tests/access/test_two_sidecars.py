"""Processes that share a file of keys follow its changes, each within a second."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from index_sidecar.access import command
from index_sidecar.access.roles import Role

from ..support.real_servers import http
from ..support.sidecar import SidecarProcess


def _wait_for(served: bool, urls: list[str], key: str) -> float:
    """The seconds until all serve the key, or none does."""
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {key}"}
    while {http("GET", f"{url}/contents", None, headers).status == 200 for url in urls} != {served}:
        assert time.monotonic() < began + 10
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.servers
def test_a_revoked_key_fails_within_a_second_in_both(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    environment = {"ACCESS": "keys", "KEYS_FILE": str(keys), "RATE_LIMIT": ""}
    with contextlib.ExitStack() as stack:
        urls = []
        for name in ("one", "other"):
            sidecar = SidecarProcess(tmp_path / name, "http://127.0.0.1:1", tmp_path / "no_key", **environment)
            stack.enter_context(sidecar).start(served="/livez")
            urls.append(sidecar.url)
        for number in range(3):
            key = command.add_key(keys, f"key-{number}", Role.READER, None, None)
            assert _wait_for(True, urls, key) < 1
            command.revoke_key(keys, f"key-{number}")
            assert _wait_for(False, urls, key) < 1
