"""How the archive is: for probes, for operators, and for who wants to know how it searches."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from .. import __version__
from ..archive.errors import StorageUnavailable
from . import answers
from .auth import CALLER
from .handlers import EMBEDDER, SERVICE
from .query import Query
from .shapes import CallerAnswer, Counts, HealthAnswer, StatusAnswer

_HEALTH_S = 2.0  # whoever asks for our health must not wait for the storage's


async def index(request: web.Request, query: Query) -> web.Response:
    """How the contents of each type are searched at the moment."""
    return answers.index(await request.app[SERVICE].index_states())


async def health(request: web.Request, query: Query) -> web.Response:
    """The process lives, and how the things around it are; without a key nothing of what is stored."""
    if CALLER not in request:
        return answers.json(StatusAnswer("ok"))
    service = request.app[SERVICE]
    contents, fingerprint = None, service.model.served()
    with contextlib.suppress(StorageUnavailable, TimeoutError):
        async with asyncio.timeout(_HEALTH_S):
            await service.check_storage()  # counts may be some seconds old
            contents, fingerprint = await service.counts(), await service.model.fingerprint()
    answer = HealthAnswer(
        status="ok",
        version=__version__,
        ready=service.is_ready() and contents is not None,
        storage="unavailable" if contents is None else "available",
        embedder="available" if request.app[EMBEDDER].answers() else "unavailable",
        model=fingerprint,
        weights=fingerprint.split(":")[1] if fingerprint and ":" in fingerprint else None,
        contents=None if contents is None else Counts(contents["text"], contents["image"]),
        erasures_due=service.erasures_due(),
    )
    return answers.json(answer)


async def caller(request: web.Request, query: Query) -> web.Response:
    """What role the caller's key has, and whom it is bound to; an admin where no key is asked for."""
    known = request.get(CALLER)
    return answers.json(CallerAnswer(None, None) if known is None else CallerAnswer(known.role.word, known.user))


async def livez(request: web.Request, query: Query) -> web.Response:
    """The process lives; nothing else is asked."""
    return answers.json(StatusAnswer("alive"))


async def ready(request: web.Request, query: Query) -> web.Response:
    """200 when every call is served, the model's too; 503 while the index is filled, or storage or model are away."""
    await request.app[SERVICE].check_served()
    return answers.json(StatusAnswer("ready"))
