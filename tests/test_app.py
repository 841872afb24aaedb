"""How the sidecar starts: what it waits for, what it refuses, what it serves meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession
from aiohttp.test_utils import TestClient

from index_sidecar.settings import Settings
from index_sidecar.sqlite.store import SqliteStore

from .support.contents import content_of
from .support.fake_torchserve import FINGERPRINT, FakeTorchServe
from .support.sidecar import AUTHORIZATION, Sidecar, SidecarProcess, running, serving
from .support.wire import request

OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"


def _process(settings: Settings, **environment: str) -> SidecarProcess:
    return SidecarProcess(settings.data_dir, settings.torchserve_url, settings.torchserve_key_file, **environment)


async def test_while_the_index_is_built_nothing_but_looking_is_served(settings: Settings) -> None:
    store = SqliteStore(settings.data_dir / "contents.sqlite")
    await asyncio.gather(*(store.put(content_of(f"id {i}", b"%d" % i)) for i in range(10_000)))
    await store.close()
    async with TestClient(serving(settings), headers=AUTHORIZATION) as client:
        sidecar = Sidecar(client)
        refused = await asyncio.gather(
            sidecar.call("GET", "/ready"),
            sidecar.add("new", b"new"),
            sidecar.retrieve(b"0"),
            sidecar.call("DELETE", "/contents/id%200"),
        )
        for path in ("add_content?id=a&type=text", "retrieve?type=text"):  # before the body is here
            assert client.port is not None
            reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(request(f"/{path}", None, "Content-Length: 9999"))
            async with asyncio.timeout(2):
                assert b" 503 " in await reader.readline()
            writer.close()
        for reply in refused:
            assert reply.error == (503, "not_ready")
            assert reply.headers["Retry-After"] == "1"
        assert (await sidecar.call("GET", "/contents/id%200")).status == 200
        health = await sidecar.call("GET", "/health")
        assert (health.status, health.json["ready"]) == (200, False)
        await sidecar.wait_ready()
        assert await sidecar.found(b"0", k="1") == ["id 0"]
        assert (await sidecar.call("GET", "/health")).json["contents"] == {"text": 10_000, "image": 0}


async def test_torchserve_may_come_late(settings: Settings, fake: FakeTorchServe) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"one")
    await fake.stop()
    async with running(settings, without_model=True) as sidecar:  # what needs no model is served
        assert (await sidecar.call("GET", "/ready")).error == (503, "embedder_unavailable")
        assert (await sidecar.call("GET", "/livez")).status == 200
        assert (await sidecar.call("GET", "/contents/a")).status == 200
        assert (await sidecar.call("GET", "/health")).json["embedder"] == "unavailable"
        assert (await sidecar.retrieve(b"one")).error == (503, "embedder_unavailable")
        assert (await sidecar.add("a", b"one")).json["status"] == "unchanged"
        assert (await sidecar.add("b", b"one")).json["status"] == "added"
        await fake.start()
        await sidecar.wait_ready()  # without a caller's doing
        assert await sidecar.found(b"one") == ["a", "b"]
        assert (await sidecar.call("GET", "/health")).json["embedder"] == "available"


@pytest.mark.servers
async def test_the_process_does_not_start_with_another_model(settings: Settings, fake: FakeTorchServe) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"one")
    fake.fingerprint = OTHER_MODEL
    with _process(settings) as process:
        assert await asyncio.to_thread(process.spawn().wait, 30) == 1
        line = process.log.read_text().splitlines()[-1]
    assert line.startswith("index_sidecar: cannot start: ")
    assert FINGERPRINT in line
    assert OTHER_MODEL in line
    assert "Traceback" not in process.log.read_text()


async def test_a_late_torchserve_with_another_model_gets_no_request_through(
    settings: Settings, fake: FakeTorchServe
) -> None:
    async with running(settings) as sidecar:
        await sidecar.add("a", b"one")
    await fake.stop()
    fake.fingerprint = OTHER_MODEL
    async with running(settings, without_model=True) as sidecar:
        await fake.start()
        assert (await sidecar.retrieve(b"one")).error == (503, "model_mismatch")
        assert (await sidecar.add("b", b"two")).error == (503, "model_mismatch")
        assert (await sidecar.call("GET", "/contents/b")).status == 404


@pytest.mark.servers
async def test_the_process_names_a_port_that_is_taken(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, _process(settings) as process:
        process.environment["PORT"] = str(taken.getsockname()[1])
        assert await asyncio.to_thread(process.spawn().wait, 30) == 1
    assert process.log.read_text().splitlines()[-1].startswith("index_sidecar: cannot start: ")
    assert "Traceback" not in process.log.read_text()


@pytest.mark.servers
async def test_the_process_names_a_store_that_is_broken(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "contents.sqlite").write_bytes(b"no database" * 1000)
    with _process(settings) as process:
        assert await asyncio.to_thread(process.spawn().wait, 30) == 1
    line = process.log.read_text().splitlines()[-1]
    assert line.startswith(f"index_sidecar: cannot start: {settings.data_dir / 'contents.sqlite'} cannot be opened")
    assert "Traceback" not in process.log.read_text()


@pytest.mark.servers
async def test_the_process_ends_orderly_when_it_is_told_to(settings: Settings, tmp_path: Path) -> None:
    with _process(settings) as process:
        await asyncio.to_thread(process.start)
        assert await asyncio.to_thread(process.stop) == 0
    assert sorted(os.listdir(settings.data_dir)) == ["contents.sqlite", "lock"]  # no WAL: all of it is in the file


@pytest.mark.servers
async def test_a_second_signal_ends_the_process_as_quietly(settings: Settings, fake: FakeTorchServe) -> None:
    with _process(settings) as process:
        await asyncio.to_thread(process.start)
        fake.delay_s = 1.0  # the request under way is answered, signals or not
        async with ClientSession(headers=AUTHORIZATION) as client:
            asking = asyncio.create_task(client.post(f"{process.url}/add_content?id=a&type=text", data=b"one"))
            while len(fake.requests) < 2:  # the first is the check of the model
                await asyncio.sleep(0.01)
            assert process.process is not None
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
                process.process.send_signal(number)
                await asyncio.sleep(0.1)
            async with await asking as reply:
                assert reply.status == 201
        assert await asyncio.to_thread(process.process.wait, 30) == 0
    assert "Traceback" not in process.log.read_text()


@pytest.mark.servers
async def test_what_the_system_took_for_the_process_is_answered_before_it_ends(settings: Settings) -> None:
    with _process(settings) as process:
        await asyncio.to_thread(process.start)
        assert process.process is not None
        process.process.send_signal(signal.SIGSTOP)  # as on a machine that has no time for it
        waiting = []
        for _ in range(24):
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            waiting.append((reader, writer))
        process.process.send_signal(signal.SIGTERM)
        process.process.send_signal(signal.SIGCONT)
        answers = [await reader.readline() for reader, _ in waiting]
        for _, writer in waiting:
            writer.close()
        assert answers == [b"HTTP/1.1 200 OK\r\n"] * 24
        assert await asyncio.to_thread(process.process.wait, 30) == 0


@pytest.mark.servers
async def test_a_write_that_hangs_does_not_keep_the_process(settings: Settings) -> None:
    with _process(settings, SHUTDOWN_TIMEOUT_S="3") as process:
        await asyncio.to_thread(process.start)
        async with ClientSession(headers=AUTHORIZATION) as client:
            async with client.post(f"{process.url}/add_content?id=a&type=text", data=b"kept") as reply:
                assert reply.status == 201
            with contextlib.closing(sqlite3.connect(settings.data_dir / "contents.sqlite")) as another:
                another.execute(
                    "CREATE TRIGGER hang AFTER INSERT ON contents BEGIN SELECT count(*) FROM"
                    " (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n); END"
                )
            hanging = asyncio.create_task(client.post(f"{process.url}/add_content?id=b&type=text", data=b"hangs"))
            await asyncio.sleep(1)
            started = time.monotonic()
            assert await asyncio.to_thread(process.stop) == 1
            assert 2 < time.monotonic() - started < 6
            with pytest.raises(ClientError):
                await hanging
    assert "not ended within 3 s: something hangs" in process.log.read_text().splitlines()[-1]
    with contextlib.closing(sqlite3.connect(settings.data_dir / "contents.sqlite")) as after:
        assert after.execute("SELECT id FROM contents").fetchall() == [("a",)]
        after.execute("DROP TRIGGER hang")


@pytest.mark.servers
@pytest.mark.parametrize("what", ["no certificate", "a folder"])
async def test_the_process_names_a_certificate_that_cannot_be_read(
    settings: Settings, tmp_path: Path, what: str
) -> None:
    place = tmp_path / "cert.pem"
    if what == "a folder":
        place.mkdir()
    else:
        place.write_text("not a certificate")
    with _process(settings, TLS_CERT_FILE=str(place), TLS_KEY_FILE=str(place)) as process:
        assert await asyncio.to_thread(process.spawn().wait, 30) == 1
    line = process.log.read_text().splitlines()[-1]
    assert line.startswith("index_sidecar: cannot start: ")
    assert str(place) in line
