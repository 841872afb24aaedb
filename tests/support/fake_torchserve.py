"""A real HTTP server that speaks TorchServe's wire, with vectors made from a hash.

As a process: `python -m tests.support.fake_torchserve`.

What it answers, and with which status and headers, was read off a real TorchServe 0.12 and handler/clip_handler.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from aiohttp import web

from .fake_vectors import vector_of
from .fake_worker import Speed, Worker

FINGERPRINT = "clip-vit-b-32:untrained:0123456789abcdef:p1"
SECRET = "secret-marker-/home/model-server/clip_handler.py"  # must never reach a caller of the sidecar
PNG = b"\x89PNG\r\n\x1a\n"  # a body that begins like this is an image to the fake
_SIGNATURES = (PNG, b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
_MOST_WORDS = 77

Failure = Literal[
    "queue_full",
    "internal_500",
    "internal_503",
    "odd_400",
    "hang",
    "disconnect",
    "garbage",
    "short",
    "long",
    "not_unit",
    "nan",
    "no_model",
    "endless",
]


@dataclass(frozen=True)
class Request:
    """A request that brought the right token."""

    type: str
    data: bytes
    request_id: str | None
    trace_parent: str | None = None


class FakeTorchServe:
    """Listens on 127.0.0.1 between `start` and `stop`; every start writes a new key file, as TorchServe does."""

    def __init__(self, key_file: Path, port: int = 0) -> None:
        self.key_file = key_file
        self.port = port  # kept over restarts once it is chosen
        self.fingerprint = FINGERPRINT
        self.delay_s = 0.0
        self.speed: Speed | None = None
        self._worker = Worker()
        self.failure: Failure | None = None
        self.resets = 0  # how many requests end with a reset of their connection before one is answered
        self.still_decoding = 0  # how many pictures are answered 503 before one is done
        self.max_request_bytes = 33_619_968
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self.token = ""
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._stopping.clear()
        self.token = secrets.token_urlsafe(8)
        keys = {"management": secrets.token_urlsafe(8), "inference": self.token, "API": secrets.token_urlsafe(8)}
        self.key_file.write_text(json.dumps({name: {"key": key} for name, key in keys.items()}))
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/predictions/clip", self._predict)
        app.router.add_put("/fake", self._become)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """From now on connections are refused."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _become(self, request: web.Request) -> web.Response:
        """For tests whose fake is a process of its own: its attributes, as JSON."""
        changes = await request.json()
        if changes.get("speed"):
            changes["speed"] = Speed(*changes["speed"])
        for name, value in changes.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        return web.Response()

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        if self.resets:
            self.resets -= 1
            assert request.transport is not None
            at_once = struct.pack("ii", 1, 0)  # by a reset, not by an orderly end
            request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            request.transport.abort()
            await self._stopping.wait()
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _own(400, "InvalidKeyException", "Token Authorization failed. Token either incorrect or expired")
        if len(data) > self.max_request_bytes:
            return _own(413, "RequestEntityTooLargeException", f"Request size is over limit: {SECRET}")
        content_type = request.headers["x-clip-type"]  # the real one drops the query string
        self.requests.append(
            Request(content_type, data, request.headers.get("x-request-id"), request.headers.get("traceparent"))
        )
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.delay_s)
            if self.speed is not None:
                await self._worker.compute(content_type, self.speed)
            return await self._fail(request) or self._answer(data, content_type)
        finally:
            self._at_once -= 1

    async def _fail(self, request: web.Request) -> web.StreamResponse | None:
        match self.failure:
            case "queue_full":
                return _own(503, "ServiceUnavailableException", f'Model "clip" has no worker to serve: {SECRET}')
            case "internal_500":
                return web.Response(status=500, text=f"Traceback (most recent call last): {SECRET}")
            case "internal_503":
                return _own(503, "InternalServerException", f"Prediction failed: {SECRET}")
            case "odd_400":
                return _own(400, "BadRequestException", f"Parameter is required: {SECRET}")
            case "hang":
                await self._stopping.wait()
            case "disconnect":
                assert request.transport is not None
                request.transport.close()
            case "garbage":
                assert request.transport is not None
                request.transport.write(b"\x00\xff\r\n no HTTP \r\n\r\n" * 9)
                request.transport.close()
            case "short":
                return self._vector(b"\x00" * 2044)
            case "long":
                return self._vector(vector_of(b"", "text").tobytes() * 2)
            case "not_unit":
                return self._vector(np.full(512, 2.0, "<f4").tobytes())
            case "nan":
                return self._vector(np.full(512, np.nan, "<f4").tobytes())
            case "no_model":
                return web.Response(body=vector_of(b"", "text").tobytes())
            case "endless":
                answer = web.StreamResponse(headers={"x-clip-model": self.fingerprint})
                await answer.prepare(request)
                while True:
                    await answer.write(bytes(1 << 16))
                    await asyncio.sleep(0.001)
        return None

    def _answer(self, data: bytes, content_type: str) -> web.Response:
        if content_type == "image":
            if not data:
                return self._refuse(400, "empty_image", "the image is empty")
            if not data.startswith(_SIGNATURES):
                return self._refuse(415, "unsupported_image", "not an image in one of the formats JPEG, PNG")
            if b"huge" in data:
                return self._refuse(413, "too_many_pixels", "the picture has too many pixels")
            if b"broken" in data:
                return self._refuse(400, "unreadable_image", "the image file is broken or truncated")
            if self.still_decoding:
                self.still_decoding -= 1
                return self._refuse(503, "still_decoding", "the picture takes long to decode; ask again")
            return self._vector(vector_of(data, "image").tobytes())
        try:
            words = data.decode().split()
        except UnicodeDecodeError as error:
            return self._refuse(400, "invalid_utf8", f"the text is not valid UTF-8 (byte {error.start})")
        if not words:
            return self._refuse(400, "empty_text", "the text is empty: send at least one visible character")
        return self._vector(vector_of(data, "text").tobytes(), cut=len(words) > _MOST_WORDS)

    def _vector(self, body: bytes, cut: bool = False) -> web.Response:
        headers = {"x-clip-model": self.fingerprint} | ({"x-clip-truncated": "true"} if cut else {})
        return web.Response(body=body, headers=headers)

    def _refuse(self, status: int, code: str, message: str) -> web.Response:
        """As handler/clip_handler.py refuses one row."""
        headers = {"x-clip-model": self.fingerprint}
        return web.json_response({"code": code, "message": message}, status=status, headers=headers)


def _own(status: int, kind: str, message: str) -> web.Response:
    """As TorchServe itself answers, before or after any handler."""
    return web.json_response({"code": status, "type": kind, "message": message}, status=status)


async def serve(fake: FakeTorchServe, port_file: Path) -> None:
    await fake.start()
    port_file.write_text(str(fake.port))
    await asyncio.Event().wait()  # until it is killed


def main() -> None:
    """A process of its own, for tests that kill the sidecar in front of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--port-file", type=Path, required=True, help="written when it listens")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    arguments = parser.parse_args()
    fake = FakeTorchServe(arguments.key_file, arguments.port)
    fake.delay_s = arguments.delay_ms / 1000
    asyncio.run(serve(fake, arguments.port_file))


if __name__ == "__main__":
    main()
