"""Processes die under load: callers get 503 with Retry-After, nothing hangs, and it all comes back by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

from .support.real_servers import RealSidecar, Reply, TorchServe, http


class Load:
    """Four clients that add texts until they are told to stop; every reply is kept with the time it took."""

    def __init__(self, sidecar: RealSidecar) -> None:
        self.replies: list[tuple[float, str, Reply]] = []
        self._sidecar = sidecar
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(4)]

    def _run(self, client: int) -> None:
        count = 0
        while not self._stop.is_set():
            text, before = f"client {client} adds text {count}", time.monotonic()
            reply = self._sidecar.post(f"/add_content?id=load-{client}-{count}&type=text", text.encode())
            self.replies.append((time.monotonic() - before, text, reply))
            count += 1
            if reply.status != 201:
                time.sleep(0.05)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def added(self) -> int:
        return sum(reply.status == 201 for _, _, reply in self.replies)

    def wait_for(self, what: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, Counter(reply.status for _, _, reply in self.replies)
            time.sleep(0.05)


def _survives(sidecar: RealSidecar, kill: Callable[[], None], revive: Callable[[], None]) -> Counter[int]:
    """Load before, during and after `kill`; every answer is 201, or 503 with Retry-After."""
    with Load(sidecar) as load:
        load.wait_for(lambda: load.added() >= 20, 30)
        kill()
        load.wait_for(lambda: any(reply.status == 503 for _, _, reply in load.replies), 30)
        revive()
        before = load.added()
        load.wait_for(lambda: load.added() >= before + 20, 60)
    for seconds, _, reply in load.replies:
        assert reply.status in (201, 503), reply
        assert seconds < 31  # the sidecar's own limit
        if reply.status == 503:
            error = json.loads(reply.body)["error"]
            assert error["code"] in ("embedder_unavailable", "overloaded")
            assert int(reply.headers["retry-after"]) >= 1
            assert "torch" not in reply.body.decode().lower().replace("torchserve", "")
    acknowledged = [text for _, text, reply in load.replies if reply.status == 201]
    for text in acknowledged[:: max(1, len(acknowledged) // 20)]:
        found = json.loads(sidecar.post("/retrieve?type=text&k=1", text.encode()).body)["contents"]
        assert found[0]["score"] >= 0.9999
    return Counter(reply.status for _, _, reply in load.replies)


def test_the_worker_is_killed_under_load(torchserve: TorchServe, real_sidecar: RealSidecar) -> None:
    old = torchserve.worker_pid()
    print(_survives(real_sidecar, lambda: os.kill(old, signal.SIGKILL), lambda: None))
    assert torchserve.worker_pid() != old


def test_torchserve_is_killed_under_load(torchserve: TorchServe, real_sidecar: RealSidecar) -> None:
    def revive() -> None:
        torchserve.start()
        torchserve.wait()  # a new server with a new key: the sidecar has to find out by itself

    print(_survives(real_sidecar, lambda: torchserve.stop(signal.SIGKILL), revive))


def test_a_repeated_query_does_not_reach_torchserve(torchserve: TorchServe, real_sidecar: RealSidecar) -> None:
    def requests() -> float:
        headers = {"Authorization": f"Bearer {torchserve.key('management')}"}
        metrics = http("GET", f"http://127.0.0.1:{torchserve.ports[2]}/metrics", None, headers).body
        (count,) = re.findall(rb"^ts_inference_requests_total\{.*\} (\S+)$", metrics, re.MULTILINE)
        return float(count)

    assert real_sidecar.post("/add_content?id=a&type=text", b"asked again and again").status == 201
    assert real_sidecar.post("/retrieve?type=text", b"a question").status == 200
    before = requests()
    for _ in range(5):
        assert real_sidecar.post("/retrieve?type=text", b"a question").status == 200
        assert real_sidecar.post("/add_content?id=b&type=text", b"asked again and again").status in (200, 201)
    assert requests() == before
    assert real_sidecar.post("/retrieve?type=text", b"another question").status == 200
    assert requests() == before + 1


def test_the_sidecar_waits_for_a_late_torchserve(torchserve: TorchServe, real_sidecar: RealSidecar) -> None:
    assert real_sidecar.post("/add_content?id=a&type=text", b"before").status == 201
    torchserve.stop()
    real_sidecar.stop()
    try:
        real_sidecar.start(served="/contents/a")  # what it holds can be looked at and deleted without the model
        assert http("GET", f"{real_sidecar.url}/ready", None, {}).status == 503
        while (refused := real_sidecar.post("/retrieve?type=text", b"before")).status == 503:
            if json.loads(refused.body)["error"]["code"] != "not_ready":  # the index is filled beside
                break
            time.sleep(0.1)
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "embedder_unavailable")
    finally:
        torchserve.start()
        torchserve.wait()
    found = json.loads(real_sidecar.post("/retrieve?type=text", b"before").body)["contents"]
    assert [hit["id"] for hit in found] == ["a"]
