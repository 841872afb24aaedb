"""HTTP clients that load TorchServe's /predictions/clip and time it."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import aiohttp
import numpy as np
import numpy.typing as npt

from tests.support.real_servers import TorchServe


class Clients:
    """Requests of one content type against one TorchServe; an answer that is no vector raises, unless told not to."""

    def __init__(self, torchserve: TorchServe, content_type: str, raise_for_status: bool = True) -> None:
        self._raise_for_status = raise_for_status
        self._url = f"{torchserve.url}/predictions/clip"
        self._headers = {
            "Authorization": f"Bearer {torchserve.key('inference')}",
            "Content-Type": "application/octet-stream",
            "X-CLIP-Type": content_type,
        }

    def latencies_s(self, bodies: Sequence[bytes]) -> list[float]:
        """Seconds of each request, sent one after the other on one connection."""
        return [seconds for seconds, _ in self._run(bodies, 1)]

    def vectors(self, bodies: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """(n, 512), row i for bodies[i]."""
        return np.stack([np.frombuffer(answer, "<f4") for _, answer in self._run(bodies, 1)])

    def per_s(self, bodies: Sequence[bytes], clients: int) -> float:
        """Requests a second while `clients` always have one under way."""
        started = time.perf_counter()
        self._run(bodies, clients)
        return len(bodies) / (time.perf_counter() - started)

    def _run(self, bodies: Sequence[bytes], clients: int) -> list[tuple[float, bytes]]:
        answers: list[tuple[float, bytes]] = [(0.0, b"")] * len(bodies)

        async def client(session: aiohttp.ClientSession, waiting: Iterator[tuple[int, bytes]]) -> None:
            for place, body in waiting:
                started = time.perf_counter()
                answer = await self._post(session, body)
                answers[place] = time.perf_counter() - started, answer

        async def run() -> None:
            connector = aiohttp.TCPConnector(limit=clients)
            async with aiohttp.ClientSession(connector=connector) as session:
                waiting = iter(enumerate(bodies))
                await asyncio.gather(*(client(session, waiting) for _ in range(clients)))

        asyncio.run(run())
        return answers

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> bytes:
        while True:
            async with session.post(self._url, data=io.BytesIO(body), headers=self._headers) as response:
                answer = await response.read()
                if response.status == 503 and b"still_decoding" in answer:
                    continue  # a picture that takes long is to be asked for again
                if self._raise_for_status:
                    response.raise_for_status()
                return answer


def cycle(bodies: Sequence[bytes], count: int) -> list[bytes]:
    """`count` bodies, over and over from the first."""
    return list(islice((body for _ in range(count) for body in bodies), count))
