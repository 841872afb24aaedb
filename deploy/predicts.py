"""Exit with 0 when TorchServe answers a prediction, with 1 and the reason when it does not.

    python deploy/predicts.py --key-file run/torchserve/key_file.json

The readiness check of TorchServe's container, under compose and Kubernetes alike: /ping says "Healthy" before the
worker has its model. Overload (503) fails it too, so it is no liveness check. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from pathlib import Path


def failure(address: str, key_file: Path, timeout_s: float) -> str | None:
    """Why TorchServe at `address` (HOST:PORT) gives no vector for a short text; None when it gives one."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)  # never through a proxy of the environment
    try:
        token = json.loads(key_file.read_text())["inference"]["key"]
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/octet-stream",
            "X-CLIP-Type": "text",
            "X-Request-ID": "readiness",
        }
        connection.request("POST", "/predictions/clip", b"ready?", headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    if response.status == 200 and len(body) == 2048:
        return None
    return f"{response.status} {response.reason}: {body[:300]!r}"


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
