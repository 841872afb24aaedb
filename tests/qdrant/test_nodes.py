"""The way to the nodes: keys, TLS, and servers that fail in every way there is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from index_sidecar.archive.errors import StorageUnavailable, StoreError
from index_sidecar.qdrant.collection import QdrantCollection
from index_sidecar.qdrant.nodes import Nodes
from index_sidecar.qdrant.store import QdrantStore

from ..support.contents import content_of, plain
from ..support.qdrant_server import QdrantServers, start_servers
from ..support.sidecar import ROOT, free_port

OTHER_MODEL = "clip-vit-b-32:openai:fedcba9876543210:p1"


async def test_a_wrong_key_stops_the_start_and_is_shown_nowhere(
    qdrant: QdrantServers, collection_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_text("wrong-key-marker")
    nodes = Nodes((f"http://{qdrant.nodes[0].address}",), tmp_path / "key", 5)
    collection = QdrantCollection(nodes, collection_name, 1, 1)
    with pytest.raises(StoreError, match="QDRANT_API_KEY_FILE") as caught:
        await collection.check()
    with pytest.raises(StorageUnavailable):
        await collection.fingerprint()
    assert "wrong-key-marker" not in caplog.text + str(caught.value)
    # The key is renewed in its file: no restart.
    (tmp_path / "key").write_text(qdrant.key_file.read_text())
    await QdrantStore(collection).put(content_of("a"))
    await collection.close()
    assert qdrant.key_file.read_text().strip() not in caplog.text


async def test_a_key_file_that_cannot_be_read_is_named(
    qdrant: QdrantServers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collection = QdrantCollection(Nodes((f"http://{qdrant.nodes[0].address}",), tmp_path / "none", 1), "x", 1, 1)
    with pytest.raises(StorageUnavailable):
        await collection.check()
    await collection.close()
    assert f"QDRANT_API_KEY_FILE={tmp_path / 'none'} cannot be read: FileNotFoundError" in caplog.text


async def test_nobody_there_is_told_in_time(caplog: pytest.LogCaptureFixture) -> None:
    nodes = tuple(f"http://127.0.0.1:{free_port()}" for _ in range(3))
    store = QdrantStore(QdrantCollection(Nodes(nodes, None, 1.5), "x", 1, 1))
    started = time.monotonic()
    for call in (store.put(content_of("a")), store.get("a"), store.count(), store.check()):
        with pytest.raises(StorageUnavailable) as caught:
            await call
        assert caught.value.retry_after_s == 2
    assert time.monotonic() - started < 4 * 2
    await store.close()
    assert {record.levelno for record in caplog.records} == {logging.WARNING, logging.ERROR}


@contextlib.asynccontextmanager
async def _server(answer: Any) -> AsyncIterator[str]:
    """A real HTTP server that does to every call what `answer` does."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def _hang(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response(status=500)


async def _overloaded(request: web.Request) -> web.Response:
    return web.Response(status=503, text="overloaded")


async def _limited(request: web.Request) -> web.Response:
    return web.Response(status=429, text="too many requests")


async def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize("answer", [_hang, _overloaded, _limited, _cut])
async def test_a_node_that_fails_is_left_for_the_next(
    store: QdrantStore, qdrant: QdrantServers, collection_name: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put(content_of("b"))
    async with _server(answer) as broken:
        nodes = Nodes((broken, f"http://{qdrant.nodes[0].address}"), qdrant.key_file, 3, first=0)
        other = QdrantStore(QdrantCollection(nodes, collection_name, 1, 1))
        started = time.monotonic()
        await other.put(content_of("a", b"one"))
        assert time.monotonic() - started < 2
        started = time.monotonic()
        assert plain(await other.get("a")) == plain(content_of("a", b"one"))
        assert time.monotonic() - started < 0.5  # nobody goes back to it
        await other.close()
    assert len([record for record in caplog.records if " fails: " in record.getMessage()]) == 1


async def _garbage(request: web.Request) -> web.Response:
    return web.Response(body=b"\x00\xff{" * 10)


async def _another_shape(request: web.Request) -> web.Response:
    return web.json_response([["result"]])


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(bytes(1 << 20))
    return response


@pytest.mark.parametrize("answer", [_garbage, _another_shape, _endless])
async def test_a_server_that_talks_nonsense_is_left_for_the_next(
    store: QdrantStore, qdrant: QdrantServers, collection_name: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put(content_of("a", b"one"))
    async with _server(answer) as broken:
        nodes = Nodes((broken, f"http://{qdrant.nodes[0].address}"), qdrant.key_file, 20, first=0)
        other = QdrantStore(QdrantCollection(nodes, collection_name, 1, 1))
        assert plain(await other.get("a")) == plain(content_of("a", b"one"))
        await other.check()
        await other.close()
    (failing,) = [record.getMessage() for record in caplog.records if " fails: " in record.getMessage()]
    assert broken in failing


async def test_what_qdrant_quotes_of_a_content_stays_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def quoting(request: web.Request) -> web.Response:
        return web.json_response(
            {"status": {"error": f"Format error: unknown user-marker in {await request.text()}"}}, status=400
        )

    async with _server(quoting) as server:
        store = QdrantStore(QdrantCollection(Nodes((server,), None, 1), "x", 1, 1))
        with pytest.raises(StorageUnavailable) as caught:
            await store.put(content_of("id-marker", user="user-marker"))
        await store.close()
    assert "marker" not in caplog.text + str(caught.value)
    assert "400: Format error" in caplog.text


async def test_a_kept_connection_that_was_reset_is_tried_again_at_once(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    async def every_other(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"result": {"count": calls}})

    async with _server(every_other) as server:
        nodes = Nodes((server,), None, 5)
        started = time.monotonic()
        assert [(await nodes.call("POST", "/x", {}))["count"] for _ in range(5)] == [1, 3, 5, 7, 9]
        assert time.monotonic() - started < 1
        await nodes.close()
    assert caplog.text == ""


# TLS


@pytest.mark.servers
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
async def test_over_tls_the_certificate_is_checked(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    servers = start_servers(tmp_path / "qdrant", 1, (certificate, key))
    try:
        await _over_tls(servers, certificate)
    finally:
        servers.stop()


async def _over_tls(servers: QdrantServers, certificate: Path) -> None:
    node = servers.nodes[0]
    program = (
        "import asyncio, pathlib, sys\n"
        "from index_sidecar.qdrant.url import qdrant_url\n"
        "from index_sidecar.qdrant.collection import QdrantCollection\n"
        "from index_sidecar.qdrant.nodes import Nodes\n"
        "async def main():\n"
        "    nodes = Nodes(qdrant_url(sys.argv[1]).nodes, pathlib.Path(sys.argv[2]), 2)\n"
        "    collection = QdrantCollection(nodes, 'x', 1, 1)\n"
        "    try:\n"
        "        print(await collection.fingerprint())\n"
        "    finally:\n"
        "        await collection.close()\n"
        "asyncio.run(main())\n"
    )
    url = f"qdrants://{node.address}"
    command = [sys.executable, "-c", program, url, str(servers.key_file)]

    def ask(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    trusted, unknown = ask(SSL_CERT_FILE=str(certificate)), ask()
    assert (trusted.returncode, trusted.stdout) == (0, "None\n"), trusted.stderr
    assert unknown.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in unknown.stderr
