"""What API keys and limits cost a search: the same sidecar, open and with keys, asked in turn.

    python -m bench.access

Two sidecars on copies of one archive of 60,000 images, in front of one embedder that looks vectors up and takes 1 ms.
They are asked one after the other, round by round, who goes first changing, so that the ratio of each round holds
where the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import aiohttp
from tqdm import tqdm

from bench.collection import filled, percentile
from bench.index_clients import at_once, lookup_embedder, one_after_the_other
from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from tests.support.sidecar import SidecarProcess

_ROWS = 60_000
_CLIENTS = 32
_LIMITED = {"ACCESS": "keys", "RATE_LIMIT": "100000000/minute", "MODEL_RATE_LIMIT": "100000000/minute"}


async def measure(rounds: int, seconds: float) -> dict[str, float]:
    """Medians over the rounds: a lone caller's milliseconds and 32 callers' answers a second, open and with keys."""
    async with filled(_ROWS) as collection, contextlib.AsyncExitStack() as stack:
        queries = collection.queries["text"]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, key_file = stack.enter_context(lookup_embedder(folder, queries))
        sidecars = {}
        for name, environment in (("open", {}), ("keys", _LIMITED)):
            shutil.copytree(collection.folder, folder / name)
            headers = {}
            if name == "keys":
                key = add_key(folder / name / "keys.json", "bench", Role.READER, None, None)
                headers = {"Authorization": f"Bearer {key}"}
            sidecar = stack.enter_context(SidecarProcess(folder / name, url, key_file, **environment))
            await asyncio.to_thread(sidecar.start, 120)
            connector = aiohttp.TCPConnector(limit=_CLIENTS)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))
            sidecars[name] = (session, f"{sidecar.url}/retrieve")

        async def ask(name: str, number: int) -> None:
            session, path = sidecars[name]
            parameters = {"type": "text", "target": "image", "k": "10"}
            async with session.post(path, params=parameters, data=b"%d" % (number % len(queries))) as response:
                assert response.status == 200, await response.text()
                await response.read()

        rates: dict[str, list[float]] = {name: [] for name in sidecars}
        times: dict[str, list[float]] = {name: [] for name in sidecars}
        for number in tqdm(range(rounds + 1), desc="access", unit="round"):
            for name in sorted(sidecars, reverse=number % 2 == 1):
                lone = await one_after_the_other(lambda n, name=name: ask(name, n), 200, seconds)  # type: ignore[misc]
                rate = await at_once(lambda n, name=name: ask(name, n), _CLIENTS, seconds)  # type: ignore[misc]
                if number:  # the first round warms up
                    times[name].append(percentile(lone, 50))
                    rates[name].append(rate)
    pairs = zip(rates["keys"], rates["open"], strict=True)
    return {
        "open_p50_ms": statistics.median(times["open"]),
        "keys_p50_ms": statistics.median(times["keys"]),
        "open_32_clients_per_s": statistics.median(rates["open"]),
        "keys_32_clients_per_s": statistics.median(rates["keys"]),
        "keys_over_open": statistics.median(keys / without for keys, without in pairs),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of a round")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.rounds, arguments.seconds))
    for name, value in figures.items():
        print(f"{name:<24} {value:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
