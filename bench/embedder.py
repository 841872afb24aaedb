"""TorchServe as the index benchmark has it: a process that answers the vector whose number is the text."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import numpy as np
from aiohttp import web

from tests.support.fake_torchserve import FakeTorchServe, serve


class TableEmbedder(FakeTorchServe):
    """Row n of a table for the text n, after a fixed time."""

    def __init__(self, key_file: Path, table: Path, delay_s: float) -> None:
        super().__init__(key_file)
        self.delay_s = delay_s
        self._rows = np.load(table)

    def _answer(self, data: bytes, content_type: str) -> web.Response:
        return self._vector(self._rows[int(data) if data.isdigit() else 0].tobytes())


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--delay-ms", type=float, default=1.0)
    arguments = parser.parse_args()
    embedder = TableEmbedder(arguments.key_file, arguments.table, arguments.delay_ms / 1000)
    asyncio.run(serve(embedder, arguments.port_file))


if __name__ == "__main__":
    main()
