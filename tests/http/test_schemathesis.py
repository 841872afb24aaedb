"""Requests made from the contract, right and wrong ones, get what it says; `make campaign` makes thousands of them."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from index_sidecar.settings import Settings

from ..support.profiles import IS_CAMPAIGN
from ..support.sidecar import BEARER, ROOT, running, with_keys

pytestmark = pytest.mark.servers

EXAMPLES, LEAST_CASES = (200, 4000) if IS_CAMPAIGN else (10, 1000)


async def _schemathesis(url: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a run against the contract at `url`, which leaves its traces in a folder."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "tests/support/schemathesis.toml")),
        *("run", f"{url}/openapi.json", "--header", f"Authorization:{BEARER['Authorization']}"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES)),
        *("--seed", "1", "--generation-database", "none", "--continue-on-failure", "--no-color", "--warnings", "off"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.timeout(1800 if IS_CAMPAIGN else 300)
@pytest.mark.parametrize("access", ["open", "keys"] if IS_CAMPAIGN else ["keys"])
async def test_answers_are_what_the_contract_says(
    settings: Settings, access: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    # As from a trusted proxy, whose wrong keys are not counted: schemathesis sends more of them than one peer may.
    settings = replace(with_keys(settings), trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    if access == "open":
        settings = replace(settings, access="open")
    with caplog.at_level(logging.ERROR):
        async with running(settings) as sidecar:
            code, output = await _schemathesis(sidecar.url, tmp_path)
    assert code == 0, output
    generated = re.search(r"(\d+) generated", output)
    assert generated is not None, output
    assert int(generated[1]) >= LEAST_CASES
    print(output[output.index("Test cases") :])
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
