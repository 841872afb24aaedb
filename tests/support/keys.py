"""API keys, and a sidecar that asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from .sidecar import Reply, Sidecar, running

Ask = Callable[..., Awaitable[Reply]]


def key(settings: Settings, role: Role, user: str | None = None, name: str | None = None) -> str:
    return add_key(settings.path_of_keys, name or f"{role.word}-{user or 'anybody'}", role, user, None)


@asynccontextmanager
async def asking(settings: Settings) -> AsyncIterator[tuple[Sidecar, Ask]]:
    """A sidecar and a way to ask it with a key."""
    async with running(settings) as sidecar:

        async def ask(method: str, path: str, with_key: str | None = None, data: bytes | None = None) -> Reply:
            headers = {"Authorization": f"Bearer {with_key}"} if with_key else {}
            return await sidecar.call(method, path, data, headers=headers)

        yield sidecar, ask
