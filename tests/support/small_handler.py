"""TorchServe's handler in the small archive of the tests: a vector of every request's bytes, without a model.

For tests of what TorchServe and its operator do, where no vector has to mean anything. It speaks the wire of
handler/clip_handler.py, and loads in a moment.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

FINGERPRINT = "clip-vit-b-32:small:0123456789abcdef:p1"


class SmallHandler:
    """What TorchServe asks of a handler: `initialize` once a worker, then `handle` once a batch."""

    def initialize(self, context: Any) -> None:
        """Nothing to load."""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Each request -> 2,048 bytes of unit length, the same for the same bytes."""
        bodies = []
        for index, request in enumerate(data):
            seed = int.from_bytes(hashlib.sha256(request.get("body") or b"").digest())
            vector = np.random.default_rng(seed).standard_normal(512)
            bodies.append((vector / np.linalg.norm(vector)).astype("<f4").tobytes())
            context.set_response_header(index, "x-clip-model", FINGERPRINT)
            context.set_response_content_type(index, "application/octet-stream")
        return bodies
