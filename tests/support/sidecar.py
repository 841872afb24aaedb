"""The sidecar as tests start it: its app in the test's own process, or a real process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from index_sidecar.app import create_app
from index_sidecar.http.server import Runner
from index_sidecar.settings import Settings

from . import contract

ROOT = Path(__file__).parent.parent.parent
# With TEST_ACCESS=keys, tests that do not say who may come in run with keys, and their clients show one.
ADMIN_KEY = "the-key-of-the-tests-which-is-long-enough"
WITH_KEYS = os.environ.get("TEST_ACCESS") == "keys"
BEARER = {"Authorization": f"Bearer {ADMIN_KEY}"}
AUTHORIZATION = BEARER if WITH_KEYS else {}
_PROBES = ("/livez", "/ready")


@dataclass(frozen=True)
class Reply:
    """Status and JSON of an answer; its `time`, which no test can foresee, is checked and taken out."""

    status: int
    json: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of an answer that has the one shape all errors have."""
        error = self.json["error"]
        assert self.json == {"error": {**error, "request_id": self.headers["X-Request-ID"]}}
        assert sorted(error) == ["code", "message", "request_id"]
        assert error["message"]
        assert ("Retry-After" in self.headers) == (self.status in (429, 503, 507))
        return self.status, error["code"]


class Sidecar:
    """A client of a sidecar that listens on a real port."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client

    @property
    def url(self) -> str:
        return str(self.client.make_url("")).rstrip("/")

    async def call(self, method: str, path: str, data: Any = None, **options: Any) -> Reply:
        """`path`, with or without a query, is sent exactly as it is given."""
        url = URL(self.url + path, encoded=True)
        if isinstance(data, bytes):
            data = io.BytesIO(data)  # aiohttp warns of large bodies handed over as bytes
        async with self.client.session.request(method, url, data=data, **options) as response:
            body = await response.read()
            contract.check(method, url.raw_path, response.status, response.headers.items(), body)
            answer = json.loads(body) if body else None
            if isinstance(answer, dict) and "time" in answer:
                assert answer.pop("time") >= 0
            return Reply(response.status, answer, response.headers)

    async def add(self, content_id: str, data: Any, content_type: str = "text", **query: str) -> Reply:
        params = {"id": content_id, "type": content_type, **query}
        return await self.call("POST", "/add_content", data, params=params)

    async def retrieve(self, data: Any, content_type: str = "text", **query: str) -> Reply:
        return await self.call("POST", "/retrieve", data, params={"type": content_type, **query})

    async def found(self, data: Any, content_type: str = "text", **query: str) -> list[str]:
        """The ids that `retrieve` finds, best first."""
        reply = await self.retrieve(data, content_type, **query)
        assert reply.status == 200, reply
        return [hit["id"] for hit in reply.json["contents"]]

    async def wait_ready(self, without_model: bool = False) -> None:
        """Until every call is served; `without_model`: until all those are that need no model."""
        async with asyncio.timeout(10):
            while (reply := await self.call("GET", "/ready")).status != 200:
                if without_model and reply.error == (503, "embedder_unavailable"):
                    return
                await asyncio.sleep(0.01)


def path_of(content_id: str) -> str:
    """The path of a content, its id percent-encoded as a whole."""
    return "/contents/" + quote(content_id, safe="")


class _Server(TestServer):
    """aiohttp's, which would run the app in another way than we do."""

    async def _make_runner(self, **_: Any) -> Runner:
        return Runner(self.app, self.idle_s)

    idle_s = 75.0


def serving(settings: Settings) -> TestServer:
    """The app on a free port, as `python -m index_sidecar` runs it."""
    if WITH_KEYS and not settings.access:
        settings = with_keys(settings)
    server = _Server(create_app(settings))
    server.idle_s = settings.idle_timeout_s
    return server


def with_keys(settings: Settings) -> Settings:
    """The same with an API key of the role admin, which `running` has its client show, and without limits."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    key_file = settings.data_dir / "admin-key"
    key_file.write_text(ADMIN_KEY)
    unlimited = replace(settings, rate_limit="", model_rate_limit="", concurrent_requests=0)
    return replace(unlimited, access="keys", admin_key_file=key_file)


@contextlib.asynccontextmanager
async def running(settings: Settings, without_model: bool = False) -> AsyncIterator[Sidecar]:
    """The app on a free port, ready."""
    async with serving(settings) as server:
        shown = settings.admin_key_file is not None or (WITH_KEYS and not settings.access)
        client: TestClient[Any, Any] = TestClient(server, headers=BEARER if shown else {})
        async with client:
            sidecar = Sidecar(client)
            await sidecar.wait_ready(without_model)
            yield sidecar


@contextlib.asynccontextmanager
async def sidecars(settings: Settings, count: int) -> AsyncIterator[list[Sidecar]]:
    """As many of `running`, all of one archive."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(settings)) for _ in range(count)]


def access(folder: Path) -> dict[str, str]:
    """What TEST_ACCESS says of a process whose test does not say who may come in: as `with_keys`."""
    if not WITH_KEYS:
        return {}
    key_file = folder / "admin-key"
    key_file.write_text(ADMIN_KEY)
    unlimited = {"RATE_LIMIT": "", "MODEL_RATE_LIMIT": "", "CONCURRENT_REQUESTS": "0"}
    return {"ACCESS": "keys", "ADMIN_KEY_FILE": str(key_file), **unlimited}


def free_port() -> int:
    """A loopback port nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class SidecarProcess:
    """`python -m index_sidecar`, which survives nothing but keeps its port and its folder over restarts."""

    module = "index_sidecar"

    def __init__(self, data_dir: Path, torchserve_url: str, key_file: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "PORT": str(self.port),
            "DATA_DIR": str(data_dir),
            "TORCHSERVE_URL": torchserve_url,
            "TORCHSERVE_KEY_FILE": str(key_file),
            **({} if "ACCESS" in environment else access(data_dir.parent)),
            **environment,
        }

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it without waiting for anything."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module], stderr=log, env=self.environment, cwd=ROOT
            )
        return self.process

    def start(self, within_s: float = 30, served: str = "/ready") -> None:
        """Start it and wait until it is ready, or serves what is asked for."""
        process, deadline = self.spawn(), time.monotonic() + within_s
        while self._status(served) != 200:
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)

    def _status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={} if path in _PROBES else AUTHORIZATION)
            return connection.getresponse().status
        except OSError:
            return 0  # nobody listens yet
        finally:
            connection.close()
