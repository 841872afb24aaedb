"""What pictures are read, and at what cost at most: the part of model-config.yaml that the decoders get."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clip_inputs import Refusal
from clip_runtime import ConfigError
from clip_signatures import PILLOW_NAMES


@dataclass(frozen=True)
class Limits:
    """Of one worker's pictures."""

    formats: tuple[str, ...] = tuple(PILLOW_NAMES)
    max_pixels: int = 100_000_000
    max_decode_bytes: int = 1 << 30  # of all that are being decoded
    decode_seconds: float = 3  # of computing, for one picture

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Limits:
        """The settings of model-config.yaml. Raises ConfigError."""
        formats = tuple(options["formats"])
        if not formats or not set(formats) <= set(PILLOW_NAMES):
            raise ConfigError(f"formats is {list(formats)}, but must be some of {', '.join(PILLOW_NAMES)}")
        for name in ("max_pixels", "max_decode_bytes", "decode_seconds"):
            value = options[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ConfigError(f"{name} is {value!r}, but must be a number above 0")
        return cls(formats, options["max_pixels"], options["max_decode_bytes"], options["decode_seconds"])


LARGE_BYTES = 128 << 20  # of memory for one picture, of 32 megapixels in colour


class Budget:
    """Bytes that many may hold together; of those who want much, who asks first gets first, and nobody else waits."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._turn = threading.Lock()
        self._freed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, wanted_bytes: int) -> Iterator[None]:
        """Wait until so much is free, and have it. Raises Refusal (413) when there is never as much."""
        if wanted_bytes > self.total_bytes:
            takes, allowed = wanted_bytes >> 20, self.total_bytes >> 20
            reason = f"decoding the picture takes {takes} MB, more than the {allowed} MB allowed: send it smaller"
            raise Refusal(413, "too_costly", reason)
        with self._turn if wanted_bytes > LARGE_BYTES else contextlib.nullcontext(), self._freed:
            self._freed.wait_for(lambda: self._free_bytes >= wanted_bytes)
            self._free_bytes -= wanted_bytes
        try:
            yield
        finally:
            with self._freed:
                self._free_bytes += wanted_bytes
                self._freed.notify_all()
