"""Start TorchServe and the sidecar together, and stop them together: python -m deploy.run

When TorchServe's model answers a real prediction, the sidecar starts. Ctrl-C stops both. When one of them dies, or
answers nothing for too long, the other is stopped and the exit code is 1; when this process is killed, both stop.
Settings are the sidecar's (python -m index_sidecar --help), TorchServe's (config.properties, TS_... in the environment)
and SERVE_START_S and SERVE_DEAF_S (deploy/serve.py).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp

from index_sidecar.archive.errors import Unavailable
from index_sidecar.embedding.torchserve import TorchServeEmbedder
from index_sidecar.settings import Settings, SettingsError

ROOT = Path(__file__).parent.parent
_SAY_S = 60
_STOP_S = 15


class Ended(Exception):
    """Ctrl-C or SIGTERM: the group is to stop."""


class Died(Ended):
    """One of the two servers ended by itself, or does not answer; the message says which, and how."""


@contextlib.asynccontextmanager
async def servers(
    environment: dict[str, str], model_store: Path = ROOT / "model_store", sidecar_log: Path | None = None
) -> AsyncIterator[tuple[str, asyncio.Future[None]]]:
    """Both servers, up and answering: the sidecar's URL, and a future that fails with Ended when it is over.

    TorchServe logs to a file beside its key file, the sidecar to our standard error or to `sidecar_log`.

    Each gets the time to start that it needs: deploy/serve.py knows when to give TorchServe up, and a large index loads
    long. Raises Ended when it is over before both are up. Both are stopped when the block is left, however it is left.
    """
    settings = Settings.from_environment(environment)
    state = settings.torchserve_key_file.parent.absolute()
    state.mkdir(parents=True, exist_ok=True)
    log = state / "torchserve.log"
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _end, ended, Ended("stopped"))
    with_us = ["--die-with", str(os.getpid())]
    serve = ["-m", "deploy.serve", "--config", str(ROOT / "config.properties"), *with_us]
    serve += ["--state", str(state), "--model-store", str(model_store)]
    url = _url(settings)
    try:
        async with _process("TorchServe", ended, serve, environment, log):
            await _until(lambda: _predicts(settings), ended, f"TorchServe's model does not answer yet: {log}")
            sidecar = ["-m", "deploy.sidecar", *with_us]
            async with _process("the sidecar", ended, sidecar, environment, sidecar_log):
                await _until(lambda: _answers(f"{url}/ready"), ended, f"the sidecar is not ready yet: {url}/health")
                yield url, ended
    finally:
        _end(ended, Ended("stopped"))
        ended.exception()


def _url(settings: Settings) -> str:
    """Where this machine reaches the sidecar."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _end(ended: asyncio.Future[None], reason: Ended) -> None:
    if not ended.done():
        ended.set_exception(reason)


@contextlib.asynccontextmanager
async def _process(
    name: str, ended: asyncio.Future[None], arguments: list[str], environment: dict[str, str], log: Path | None
) -> AsyncIterator[None]:
    """A Python process that ends the group when it ends, and is stopped when the block is left."""
    # Another server may be writing there, until it turns out that there is one.
    with log.open("ab") if log else contextlib.nullcontext() as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *arguments), cwd=ROOT, env=environment, stdout=output, stderr=output
        )

    async def watch() -> None:
        code = await process.wait()
        last_lines = log.read_text(errors="replace").splitlines()[-15:] if log else []
        _end(ended, Died("\n".join([*last_lines, f"{name} ended with exit code {code}"])))

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _until(check: Callable[[], Awaitable[bool]], ended: asyncio.Future[None], message: str) -> None:
    """Ask until it is so, and say now and then that it is not. Raises Ended when it is over first."""
    said = time.monotonic()
    while not await check():
        if ended.done():
            ended.result()
        if time.monotonic() - said > _SAY_S:
            said = time.monotonic()
            print(message, file=sys.stderr, flush=True)
        await asyncio.sleep(0.25)


async def _predicts(settings: Settings) -> bool:
    if not settings.torchserve_key_file.exists():
        return False
    embedder = TorchServeEmbedder(settings.torchserve_url, settings.torchserve_key_file, 10, 1)
    try:
        await embedder.embed(b"is anybody there?", "text")
    except Unavailable:
        return False
    finally:
        await embedder.close()
    return True


async def _answers(url: str) -> bool:
    try:
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _main() -> None:
    async with servers(dict(os.environ)) as (url, ended):
        print(f"The archive is ready: {url} (Ctrl-C stops it)", flush=True)
        await ended


def main() -> None:
    """Run until Ctrl-C or SIGTERM; exit with 1 when a server cannot start or dies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    try:
        asyncio.run(_main())
    except Died as error:
        sys.exit(str(error))
    except SettingsError as error:
        sys.exit(f"wrong settings\n{error}")
    except Ended:
        print("stopped")


if __name__ == "__main__":
    main()
