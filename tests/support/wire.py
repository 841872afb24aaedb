"""What clients really put on the wire, byte for byte."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from .sidecar import AUTHORIZATION, Sidecar

BOUNDARY = "BoUnDaRy"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Answer:
    """The status lines that came (100 and the last), the last one's headers in lower case, and its body."""

    statuses: list[int]
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return self.statuses[-1]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of an error, which has the one shape whoever found it, and says nothing of us."""
        assert self.headers["content-type"].startswith("application/json")
        error = self.json["error"]
        assert sorted(error) == ["code", "message", "request_id"]
        assert error["request_id"] == self.headers["x-request-id"]
        assert not any(word in error["message"].lower() for word in ("aiohttp", "traceback", "python", "brotli"))
        return self.status, error["code"]


def request(path: str, body: bytes | None = b"", *headers: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A request of raw bytes; without a length where the body is None."""
    shown = [f"{name}: {value}" for name, value in AUTHORIZATION.items()]
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *shown, *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + (body or b"")


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form of (headers, data); see `field` and `file`."""
    body = b"".join(
        f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode("utf-8", "surrogateescape") + data + b"\r\n" for head, data in parts
    )
    return body + f"--{BOUNDARY}--\r\n".encode()


def field(name: str, value: str) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', value.encode()


def file(data: bytes, filename: str = "photo.jpg", *headers: str, name: str = "file") -> tuple[str, bytes]:
    return "\r\n".join((f'Content-Disposition: form-data; name="{name}"; filename="{filename}"', *headers)), data


async def send(sidecar: Sidecar, *pieces: bytes, pause_s: float = 0.0) -> Answer:
    """Send the pieces, with pauses between them, and read the answer to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.client.server.port)
    try:
        for number, piece in enumerate(pieces):
            await asyncio.sleep(pause_s if number else 0)
            writer.write(piece)
            await writer.drain()
        statuses: list[int] = []
        while not statuses or statuses[-1] == 100:
            status, *lines = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode().split("\r\n")
            statuses.append(int(status.split()[1]))
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = b""
        if not pieces[0].startswith(b"HEAD"):
            body = await asyncio.wait_for(reader.readexactly(int(headers.get("content-length", 0))), 10)
        return Answer(statuses, headers, body)
    finally:
        writer.close()
