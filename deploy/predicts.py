"""Exit with 0 when TorchServe answers a prediction, with 1 and the reason when it does not.

    python deploy/predicts.py --key-file run/torchserve/key_file.json

The readiness check of TorchServe's container, under compose and Kubernetes alike: /ping says "Healthy" before the
worker has its model. Overload (503) fails it too, so it is no liveness check. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
from pathlib import Path

_COUNTER = re.compile(rb"^ts_inference_latency_microseconds\{.*?\} (\S+)$", re.MULTILINE)


class _NoAnswerError(Exception):
    """Nothing came back, or the key file is not there yet."""


def failure(address: str, key_file: Path, timeout_s: float) -> str | None:
    """Why TorchServe at `address` (HOST:PORT) gives no vector for a short text; None when it gives one."""
    headers = {"Content-Type": "application/octet-stream", "X-CLIP-Type": "text", "X-Request-ID": "readiness"}
    try:
        status, body = _call(address, key_file, "inference", "POST", "/predictions/clip", timeout_s, headers, b"ready?")
    except _NoAnswerError as error:
        return str(error)
    if status == 200 and len(body) == 2048:
        return None
    return f"{status}: {body[:300]!r}"


def predictions(address: str, key_file: Path, timeout_s: float) -> float | None:
    """A number that grows with each prediction answered to whomever, from the metrics at `address`; None: unknown."""
    try:
        _, body = _call(address, key_file, "management", "GET", "/metrics", timeout_s)
    except _NoAnswerError:
        return None
    counted = _COUNTER.findall(body)
    return sum(map(float, counted)) if counted else None


def _call(
    address: str,
    key_file: Path,
    kind: str,
    method: str,
    path: str,
    timeout_s: float,
    headers: dict[str, str] | None = None,
    data: bytes | None = None,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=timeout_s)  # never through a proxy of the environment
    try:
        token = json.loads(key_file.read_text())[kind]["key"]
        connection.request(method, path, data, {"Authorization": f"Bearer {token}", **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise _NoAnswerError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()


def main() -> None:
    """Parse the arguments, ask, exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:8080", metavar="HOST:PORT", help="default: 127.0.0.1:8080")
    parser.add_argument("--key-file", type=Path, default=Path("run/torchserve/key_file.json"))
    parser.add_argument("--timeout-s", type=float, default=10)
    arguments = parser.parse_args()
    if reason := failure(arguments.address, arguments.key_file, arguments.timeout_s):
        sys.exit(f"predicts: {reason}")


if __name__ == "__main__":
    main()
