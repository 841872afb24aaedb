"""Pictures of a batch -> pixels, decoded in processes of their own, within a budget of memory and of time.

No file can take the worker's memory or its time: a decoding process that computes too long is ended by the operating
system, one that crashes takes only its own picture along, and all of them together hold at most `max_decode_bytes`. A
batch does not wait for a picture that takes long, either: its row is told to ask again, and finds it done. One decoder
takes no large pictures, so that small ones never wait for these.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from clip_inputs import IMAGE_SIDE, Picture, Pixels, Refusal
from clip_limits import LARGE_BYTES, Budget, Limits

logger = logging.getLogger(__name__)

_MOST_PROCESSES = 8
_ANSWER_BYTES = 3 * IMAGE_SIDE * IMAGE_SIDE
# A batch goes on when none of its pictures got done for so long, and at the latest after this much in all.
_PATIENCE_S = 0.25
_MOST_PATIENCE_S = 1.0
_KEPT = 64  # pictures that were left behind, 150 KB each once they are done
# A process that gets no core computes nothing: time by the clock only ends what hangs.
_CLOCK_FACTOR = 10
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}


class _Decoder:
    """One process of `clip_decoder.py`, started anew after its end. One thread at a time uses it."""

    def __init__(self, limits: Limits, budget: Budget, large: threading.Semaphore) -> None:
        """`large`: how many of all decoders may be at a large picture at once."""
        self._limits = limits
        self._budget = budget
        self._large = large
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(Path(__file__).with_name("clip_decoder.py")), json.dumps(asdict(self._limits))]
        # It computes on one core; the libraries' threads would only take memory.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def decode(self, data: bytes) -> Picture:
        """Raises Refusal, also for what is no fault of the file's: then with status 500, after a line in the log."""
        try:
            answer, picture = self._ask(struct.pack(">I", len(data)), data)
            if "needs" in answer:
                try:
                    with self._admitted(answer["needs"]), self._budget.hold(answer["needs"]):
                        answer, picture = self._ask(b"\1")
                except Refusal:
                    self._send(b"\0")
                    raise
        except OSError:  # also the end of its file: the process is gone
            raise self._death(data) from None
        if "refusal" in answer:
            raise Refusal(*answer["refusal"])
        if "failure" in answer:
            logger.error("a picture of %d bytes was not decoded: %s", len(data), answer["failure"])
            raise Refusal(500, "decoding_failed", "the picture could not be decoded, by no fault of its own")
        return np.frombuffer(picture, np.uint8).reshape(IMAGE_SIDE, IMAGE_SIDE, 3)

    @contextlib.contextmanager
    def _admitted(self, needed_bytes: int) -> Iterator[None]:
        """Raises Refusal where the picture is large, and as many are being decoded as may be."""
        if needed_bytes <= LARGE_BYTES:
            yield
            return
        if not self._large.acquire(blocking=False):
            raise _still_decoding()
        try:
            yield
        finally:
            self._large.release()

    def _send(self, *parts: bytes) -> None:
        assert self._process.stdin is not None
        for part in parts:
            self._process.stdin.write(part)
        self._process.stdin.flush()

    def _ask(self, *parts: bytes) -> tuple[dict[str, Any], bytes]:
        """Raises OSError when the process ends instead of answering, or is ended because it hangs."""
        watch = threading.Timer(
            _CLOCK_FACTOR * self._limits.decode_seconds, self._process.send_signal, (signal.SIGPROF,)
        )
        watch.start()
        try:
            self._send(*parts)
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            answer = json.loads(line)
            picture = b"" if answer else self._process.stdout.read(_ANSWER_BYTES)
            if not answer and len(picture) < _ANSWER_BYTES:
                raise EOFError
            return answer, picture
        except EOFError as error:
            raise BrokenPipeError from error
        finally:
            watch.cancel()

    def _death(self, data: bytes) -> Refusal:
        """What it means that the process ended over a file; there is a new one afterwards."""
        with contextlib.suppress(OSError):
            self._process.communicate()
        code = self._process.wait()
        self._process = self._start()
        if code == -signal.SIGPROF:
            allowed = f"longer than the {self._limits.decode_seconds:g} s of computing allowed"
            reason = f"decoding the picture takes {allowed}: send it smaller, or saved anew"
            return Refusal(413, "too_costly", reason)
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        digest = hashlib.sha256(data).hexdigest()
        logger.error("decoding a picture of %d bytes (SHA-256 %s) ended its process: %s", len(data), digest, name)
        if -code in _CRASHES:
            return Refusal(400, "unreadable_image", "the image file is broken")
        return Refusal(500, "decoding_failed", "the picture could not be decoded, by no fault of its own")


class DecodePool:
    """As many decoders as `threads`, eight at most; and one that takes no large picture."""

    def __init__(self, limits: Limits, threads: int) -> None:
        budget, most_large = Budget(limits.max_decode_bytes), min(threads, _MOST_PROCESSES)
        large = threading.Semaphore(most_large)
        self._all = [_Decoder(limits, budget, large) for _ in range(most_large + 1)]
        self._idle: queue.LifoQueue[_Decoder] = queue.LifoQueue()  # who has its memory already goes first
        for decoder in reversed(self._all):
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(len(self._all), "decode")
        self._left: OrderedDict[bytes, Future[Pixels]] = OrderedDict()

    def close(self) -> None:
        """End the processes, once they are done with what they have begun."""
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._all:
            decoder.close()

    def read(self, files: Sequence[bytes]) -> list[Pixels | Refusal]:
        """Each picture file -> its pixels or its refusal, in order. Called by one thread at a time."""
        left = set(self._left.values())
        futures = [self._future(file) for file in files]
        # Who asks again is not waited for once more: it would be at every batch's cost.
        self._wait([future for future in futures if future not in left])
        return [self._outcome(file, future) for file, future in zip(files, futures, strict=True)]

    def _future(self, file: bytes) -> Future[Pixels]:
        # Most of the time none was left, and nothing has to be hashed.
        left = self._left.pop(hashlib.sha256(file).digest(), None) if self._left else None
        return left or self._threads.submit(self._decode, file)

    def _decode(self, file: bytes) -> Pixels:
        decoder = self._idle.get()
        try:
            return Pixels.of(decoder.decode(file))
        finally:
            self._idle.put(decoder)

    def _wait(self, futures: Sequence[Future[Pixels]]) -> None:
        latest = time.monotonic() + _MOST_PATIENCE_S
        waiting = set(futures)
        while waiting:
            patience = min(_PATIENCE_S, latest - time.monotonic())
            done, waiting = wait(waiting, max(0, patience), FIRST_COMPLETED)
            if not done:
                return

    def _outcome(self, file: bytes, future: Future[Pixels]) -> Pixels | Refusal:
        if future.done():
            try:
                return future.result()
            except Refusal as refusal:
                return refusal
        if not future.cancel():  # it has begun: keep it for who asks again
            self._left[hashlib.sha256(file).digest()] = future
            while len(self._left) > _KEPT:
                self._left.popitem(last=False)
        return _still_decoding()


def _still_decoding() -> Refusal:
    return Refusal(503, "still_decoding", "the picture takes long to decode; ask again, and it will be done")
