"""What is written down: one event a line whatever callers send, and nothing that is nobody's business."""

from __future__ import annotations

import asyncio
import json
import re

import aiohttp
import pytest
from yarl import URL

from index_sidecar.settings import Settings

from .support.fake_torchserve import SECRET, FakeTorchServe
from .support.sidecar import AUTHORIZATION, SidecarProcess

# Paths by which a caller would like to end a line, forge another, or speak to the operator's terminal.
PATHS = ["/contents/a%0A2026-01-01%20ERROR%20forged", "/contents/%1B%5B2J", "/nowhere%0D%0A%22%7D%E2%80%A8", "/%C2%85"]


async def _log_of(settings: Settings, fake: FakeTorchServe, log_format: str) -> tuple[str, list[str]]:
    """The log of a process through everything that makes it write, and its lines."""
    process = SidecarProcess(settings.data_dir, fake.url, fake.key_file, LOG_FORMAT=log_format)
    with process:
        await asyncio.to_thread(process.start)
        async with aiohttp.ClientSession(headers=AUTHORIZATION) as session:

            async def call(method: str, path: str, data: bytes = b"", request_id: str = "id-1") -> int:
                url, headers = URL(process.url + path, encoded=True), {"X-Request-ID": request_id}
                async with session.request(method, url, data=data, headers=headers) as response:
                    return response.status

            for path in PATHS:
                assert await call("GET", path) in (400, 404)
            query = "/add_content?id=private-id&type=text&user=private-user"
            assert await call("POST", query, b"private text") == 201
            fake.failure = "internal_500"
            assert await call("POST", query + "2", b"other private text") == 503
            fake.failure = None
            keys = fake.key_file.read_text()
            fake.key_file.write_text('{"inference": {"key": "private-token"}}')
            fake.token = "another one"
            assert await call("POST", query, b"third private text") == 503
            fake.key_file.write_text(keys)
        assert await asyncio.to_thread(process.stop) == 0
    log = process.log.read_text()
    return log, log.rstrip("\n").split("\n")


def _nothing_private(log: str, keys: str) -> None:
    for key in re.findall(r'"key": "([^"]+)"', keys):
        assert key not in log
    assert "private" not in log
    assert "type=text" not in log
    assert SECRET in log  # what TorchServe said is the operator's business


@pytest.mark.servers
async def test_json_lines(settings: Settings, fake: FakeTorchServe) -> None:
    keys = fake.key_file.read_text()
    log, lines = await _log_of(settings, fake, "json")
    _nothing_private(log, keys)
    events = [json.loads(line) for line in lines]
    requests = [event for event in events if event["logger"] == "index_sidecar.access" and event["route"] != "/ready"]
    for event in events:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
        assert event["level"] in ("info", "warning", "error")
    assert [(event["method"], event["route"], event["status"]) for event in requests] == [
        ("GET", "/contents/{id}", 400),
        ("GET", "/contents/{id}", 400),
        ("GET", "unmatched", 404),
        ("GET", "unmatched", 404),
        ("POST", "/add_content", 201),
        ("POST", "/add_content", 503),
        ("POST", "/add_content", 503),
    ]
    assert {event["request_id"] for event in requests} == {"id-1"}
    others = [event for event in events if event["logger"].startswith("index_sidecar.embedding")]
    assert [event["request_id"] for event in others] == ["id-1"] * len(others)
    assert len(others) >= 2  # what TorchServe said, and that it refuses our token
    assert all(event["ms"] >= 0 for event in requests)
    assert log.splitlines() == log.rstrip("\n").split("\n")  # nor do other characters end a line


@pytest.mark.servers
async def test_text_lines(settings: Settings, fake: FakeTorchServe) -> None:
    keys = fake.key_file.read_text()
    log, lines = await _log_of(settings, fake, "text")
    _nothing_private(log, keys)
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) ", line), line
        assert line.isprintable()
    assert sum('route="/contents/{id}" status=400' in line for line in lines) == 2
    assert log.splitlines() == log.rstrip("\n").split("\n")
