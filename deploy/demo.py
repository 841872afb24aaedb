"""The product in one screen: real photographs and captions in, ranked answers out: python -m deploy.demo [--once]

Starts both servers, adds the photographs that scikit-image ships and a caption for each through POST /add_content,
asks by text, by image and without one user's contents, and prints the rankings. Its archive (run/demo/model_store),
state and contents live in run/demo, its ports are its own, and it follows no setting of the environment: whatever
`make run` lives on, here or elsewhere, is not touched.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import aiohttp
import skimage.data
from tqdm import tqdm

from index_sidecar.settings import Settings

from .run import ROOT, Died, Ended, servers

CAPTIONS = {
    "astronaut.png": "an astronaut in an orange suit smiles in front of a space shuttle",
    "camera.png": "a man with a camera on a tripod in a park",
    "cell.png": "a cell under the microscope",
    "chelsea.png": "a cat looks into the camera",
    "clock_motion.png": "a clock, blurred by motion",
    "coffee.png": "a cup of coffee with a spoon on a wooden table",
    "coins.png": "old coins on a dark ground",
    "grass.png": "a lawn seen from above",
    "hubble_deep_field.jpg": "galaxies in the night sky",
    "moon.png": "the surface of the moon",
    "motorcycle_left.png": "a motorcycle in a garage",
    "retina.jpg": "the retina of an eye",
    "rocket.jpg": "a rocket on its launch pad",
}
PHOTOGRAPHS = Path(skimage.data.__file__).parent
_OCTETS = {"content-type": "application/octet-stream"}


async def _call(session: aiohttp.ClientSession, path: str, data: bytes, **parameters: str) -> dict[str, Any]:
    async with session.post(path, params=parameters, data=data, headers=_OCTETS) as response:
        answer: dict[str, Any] = await response.json()
        if response.status >= 300:
            raise Died(f"{path} answered {response.status}: {answer}")
        return answer


def _table(title: str, curl: str, answer: dict[str, Any]) -> None:
    print(f"\n{title}\n  $ {curl}\n  {'rank':<5}{'score':<9}{'type':<7}{'user':<7}id")
    for rank, hit in enumerate(answer["contents"], 1):
        print(f"  {rank:<5}{hit['score']:<9.4f}{hit['type']:<7}{hit['user'] or '-':<7}{hit['id']}")


async def demo(url: str) -> None:
    """Load and ask the sidecar at `url`. Raises Died when an answer is not as it must be."""
    async with aiohttp.ClientSession(url) as session:
        weights = (await (await session.get("/health")).json())["weights"]
        for name, caption in tqdm(CAPTIONS.items(), desc="adding", unit="pair", file=sys.stdout, ncols=80):
            stem, user = Path(name).stem, "ada" if name < "coffee" else "grace"
            photograph = (PHOTOGRAPHS / name).read_bytes()
            await _call(session, "/add_content", photograph, id=f"{stem}-photo", type="image", user=user)
            await _call(session, "/add_content", caption.encode(), id=f"{stem}-caption", type="text", user=user)
        cat = (PHOTOGRAPHS / "chelsea.png").read_bytes()
        again = await _call(session, "/add_content", cat, id="chelsea-photo", type="image", user="ada")
        print(f"\nThe same photograph once more: status={again['status']}, {again['msg']}")

        question = "a small animal with whiskers"
        answer = await _call(session, "/retrieve", question.encode(), type="text", k="5")
        _table(f"By text: {question!r}", f"curl --data-binary '{question}' '{url}/retrieve?type=text&k=5'", answer)
        answer = await _call(session, "/retrieve", cat, type="image", k="5", target="image")
        file = PHOTOGRAPHS / "chelsea.png"
        curl = f"curl --data-binary @{file} '{url}/retrieve?type=image&k=5&target=image'"
        _table("By image: the stored photograph of the cat itself", curl, answer)
        first = answer["contents"][0]
        if first["id"] != "chelsea-photo" or first["score"] < 0.9999:
            raise Died(f"a stored photograph must find itself first, but the first is {first}")
        answer = await _call(session, "/retrieve", cat, type="image", k="5", user="ada")
        _table("The same, without what ada posted", f"{curl.replace('&target=image', '&user=ada')}", answer)
    if weights == "untrained":
        print(
            "\n!! UNTRAINED WEIGHTS: OpenAI's checkpoint could not be downloaded, so the rankings above carry no"
            "\n!! meaning; only the mechanics are real. Where the network allows it: make mar WEIGHTS=official"
        )
    else:
        print(f"\nWeights: {weights} (trained by their source).")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep `folder` for this demo. Raises Died when another one runs on it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Died("another demo runs here: stop it first") from None
        yield


def _environment(folder: Path, port: int) -> dict[str, str]:
    """That of this process without any setting of the servers, and with the demo's own."""
    settings = {field.name.upper() for field in fields(Settings)}
    own = {name: value for name, value in os.environ.items() if name not in settings and not name.startswith("TS_")}
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
        inference, management, metrics, *grpc = (each.getsockname()[1] for each in sockets)
    return own | {
        "TS_INFERENCE_ADDRESS": f"http://127.0.0.1:{inference}",
        "TS_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{management}",
        "TS_METRICS_ADDRESS": f"http://127.0.0.1:{metrics}",
        "TS_GRPC_INFERENCE_PORT": str(grpc[0]),
        "TS_GRPC_MANAGEMENT_PORT": str(grpc[1]),
        "TORCHSERVE_URL": f"http://127.0.0.1:{inference}",
        "TORCHSERVE_KEY_FILE": str(folder / "torchserve" / "key_file.json"),
        "DATA_DIR": str(folder / "data"),
        "PORT": str(port),
    }


async def _main(once: bool, port: int) -> None:
    folder = ROOT / "run" / "demo"
    with _alone(folder):
        shutil.rmtree(folder / "data", ignore_errors=True)
        environment = _environment(folder, port)
        async with servers(environment, folder / "model_store", folder / "sidecar.log") as (url, ended):
            await demo(url)
            if not once:
                print(f"\nThe archive goes on at {url}, with a page to search it there (Ctrl-C stops it)", flush=True)
                await ended


def main() -> None:
    """Run the demo; exit with 1 when anything in it fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="stop the servers after the answers")
    parser.add_argument("--port", type=int, default=8190, help="the sidecar's; default: 8190")
    arguments = parser.parse_args()
    try:
        asyncio.run(_main(arguments.once, arguments.port))
    except Died as error:
        sys.exit(str(error))
    except Ended:
        print("stopped")


if __name__ == "__main__":
    main()
