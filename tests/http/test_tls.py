"""HTTPS on the sidecar's own port: what is served, what happens when the certificate is renewed, and plain HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from index_sidecar.http.tls import Certificate

from ..support.sidecar import SidecarProcess

CA = trustme.CA()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Files of a certificate for 127.0.0.1 and its key."""
    return _renewed(tmp_path / "tls.crt", tmp_path / "tls.key")


def _renewed(cert_file: Path, key_file: Path) -> tuple[Path, Path]:
    issued = CA.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(key_file)
    cert_file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return cert_file, key_file


def _client() -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return context


@pytest.fixture
def served(pair: tuple[Path, Path]) -> Iterator[tuple[int, Certificate, asyncio.Runner]]:
    """A server that says hello, by TLS."""
    certificate = Certificate(*pair)

    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    with asyncio.Runner() as runner:
        server = runner.run(asyncio.start_server(hello, "127.0.0.1", 0, ssl=certificate.context))
        yield server.sockets[0].getsockname()[1], certificate, runner
        server.close()


async def _serial(port: int) -> object:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_client())
    assert await reader.read(5) == b"hello"
    serial = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.close()
    return serial


def test_a_renewed_certificate_is_served_without_a_restart(
    served: tuple[int, Certificate, asyncio.Runner], pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    port, certificate, runner = served
    before = runner.run(_serial(port))
    old_key = pair[1].read_bytes()
    _renewed(*pair)
    new_key = pair[1].read_bytes()
    pair[1].write_bytes(old_key)  # for a moment the two do not match
    certificate.look()
    assert runner.run(_serial(port)) == before
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    pair[1].write_bytes(new_key)
    certificate.look()
    assert runner.run(_serial(port)) != before


@pytest.mark.parametrize("request_line", [b"GET /ready HTTP/1.1", b"POST /retrieve?type=text HTTP/1.1"])
def test_plain_http_is_told(served: tuple[int, Certificate, asyncio.Runner], request_line: bytes) -> None:
    port, _, runner = served

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_line + b"\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))
        writer.close()
        assert head.startswith(b"HTTP/1.1 400 ")
        return body

    error = json.loads(runner.run(ask()))["error"]
    assert (error["code"], sorted(error)) == ("tls_required", ["code", "message", "request_id"])
    assert runner.run(_serial(port))  # and the next handshake is served


def test_old_versions_are_refused(served: tuple[int, Certificate, asyncio.Runner]) -> None:
    port, _, runner = served
    old = _client()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        runner.run(asyncio.open_connection("127.0.0.1", port, ssl=old))


def test_files_that_are_no_pair_do_not_start(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    other = _renewed(tmp_path / "other.crt", tmp_path / "other.key")
    with pytest.raises(ssl.SSLError):
        Certificate(pair[0], other[1])


def test_the_process_serves_https(pair: tuple[Path, Path], tmp_path: Path) -> None:
    files = {"TLS_CERT_FILE": str(pair[0]), "TLS_KEY_FILE": str(pair[1])}
    with SidecarProcess(tmp_path / "data", "http://127.0.0.1:1", tmp_path / "no_key", **files) as sidecar:
        process, deadline = sidecar.spawn(), time.monotonic() + 30
        while True:
            assert process.poll() is None, sidecar.log.read_text()
            assert time.monotonic() < deadline, sidecar.log.read_text()
            try:
                plain = socket.create_connection(("127.0.0.1", sidecar.port), 5)
            except OSError:
                time.sleep(0.05)
                continue
            with _client().wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                secure.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                assert secure.recv(100).startswith(b"HTTP/1.1 200 OK")
                break
