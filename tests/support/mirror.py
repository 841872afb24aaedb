"""A real HTTP server of one file, which can break off, refuse ranges, tell no length, be slow, or serve wrong bytes."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Mirror:
    """What is served, how, and the Range header of each request so far."""

    data: bytes
    sha256: str
    resumes: bool = True
    tells_length: bool = True
    pause_s: float = 0
    break_after: int | None = None
    ranges: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.sha256}/ViT-B-32.pt"


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, mirror: Mirror, *arguments: object) -> None:
        self.mirror = mirror
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.mirror.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.mirror.resumes else 0
        body = self.mirror.data[start:]
        if not body:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.mirror.tells_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(self.mirror.pause_s)
        try:
            self.wfile.write(body if self.mirror.break_after is None else body[: self.mirror.break_after])
        except ConnectionError:  # the caller had to give up
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(data: bytes) -> Iterator[Mirror]:
    """A mirror of `data` on a loopback port."""
    mirror = Mirror(data, hashlib.sha256(data).hexdigest())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, mirror)) as server:
        mirror.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield mirror
        server.shutdown()
        thread.join()
