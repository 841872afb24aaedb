"""The client as tests use it: one suite, run by the one that waits and the one that is awaited, open and with keys."""

from __future__ import annotations

import asyncio
import functools
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clip_archive import Archive, AsyncArchive, Patience
from index_sidecar.settings import Settings

from ..support.sidecar import ADMIN_KEY, Sidecar, running, with_keys

QUICK = Patience(silence_s=5, within_s=10, attempts=3, pause_s=0.01, wait_most_s=0.1)


class Waiting:
    """`Archive` in threads, so that it can be awaited like `AsyncArchive`."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._archive, name)

        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            if name.startswith("export"):
                return _in_thread(method(*args, **options))
            return asyncio.to_thread(method, *args, **options)

        return call


async def _in_thread(found: Iterator[Any]) -> Any:
    while (each := await asyncio.to_thread(next, found, None)) is not None:
        yield each


def client_of(kind: str, url: str, key: str | None = None, patience: Patience = QUICK) -> Any:
    """A client that is awaited, whichever it is."""
    if kind == "sync":
        return Waiting(Archive(url, key=key, patience=patience))
    return AsyncArchive(url, key=key, patience=patience)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["open", "keys"])
def access(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(runner: asyncio.Runner, settings: Settings, access: str) -> Iterator[Sidecar]:
    """A ready sidecar, open or with keys."""
    settings = with_keys(settings) if access == "keys" else replace(settings, access="open")
    context = running(settings)
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))


@pytest.fixture
def client(runner: asyncio.Runner, served: Sidecar, kind: str, access: str) -> Iterator[Any]:
    """A client of `served`, with an admin's key where one is asked for."""
    made = client_of(kind, served.url, ADMIN_KEY if access == "keys" else None)
    yield made
    runner.run(made.close())


@pytest.fixture
def tar_of() -> Callable[[Path, dict[str, bytes]], Path]:
    """Makes a tar of files by their names."""

    def make(path: Path, files: dict[str, bytes]) -> Path:
        with tarfile.open(path, "w") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return path

    return make
