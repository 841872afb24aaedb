"""Adds to a running archive from several threads, and a list of those that it acknowledged."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from typing import Any, Self
from urllib.parse import quote

_CALLERS = 2
_PAUSE_S = 0.02


class Adds:
    """`with` it: so long there are adds. What it knows outlives it, for the next faults."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.acknowledged: list[str] = []
        self.answers: Counter[int] = Counter()
        """Statuses; 0 where no answer came."""
        self.unanswered: list[float] = []
        """When requests began to which no answer came."""
        self.begun_and_done = 0.0
        """When the newest of the adds began that were acknowledged."""
        self._count = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._stop.clear()
        self._threads = [threading.Thread(target=self._work) for _ in range(_CALLERS)]
        for each in self._threads:
            each.start()
        self.succeed()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()

    def succeed(self, since: float | None = None, within_s: float = 240) -> float:
        """Wait until an add is acknowledged that began after `since` (now); the seconds from then to its answer."""
        since = time.monotonic() if since is None else since
        while self.begun_and_done <= since:
            assert time.monotonic() < since + within_s, f"no add is acknowledged {within_s} s after: {self.answers}"
            time.sleep(0.01)
        return time.monotonic() - since

    def missing(self) -> list[str]:
        """What was acknowledged and is not listed, or, of the last ones, is not found."""
        listed, after = set[str](), ""
        while True:
            page = self._get(f"/contents?limit=1000{after}")
            listed |= {each["id"] for each in page["contents"]}
            if not page.get("next"):
                break
            after = f"&after={quote(page['next'])}"
        lost = [each for each in self.acknowledged if each not in listed]
        for each in self.acknowledged[-5:]:
            body = self._text(each)
            status, answer = _call(self.port, "POST", "/retrieve?type=text&k=1", body)
            if status != 200 or [hit["id"] for hit in answer["contents"]] != [each]:
                lost.append(f"{each}: {status} {answer}")
        return lost

    def _get(self, path: str) -> Any:
        status, answer = _call(self.port, "GET", path)
        assert status == 200, answer
        return answer

    @staticmethod
    def _text(content_id: str) -> bytes:
        return f"a picture of {content_id} on a roof".encode()

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                self._count += 1
                content_id = f"c{self._count}"
            began = time.monotonic()
            try:
                status, _ = _call(self.port, "POST", f"/add_content?id={content_id}&type=text", self._text(content_id))
            except (OSError, http.client.HTTPException, ValueError):
                status = 0
            with self._lock:
                self.answers[status] += 1
                if status == 201:
                    self.acknowledged.append(content_id)
                    self.begun_and_done = max(self.begun_and_done, began)
                elif status == 0:
                    self.unanswered.append(began)
            self._stop.wait(_PAUSE_S)


def _call(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
