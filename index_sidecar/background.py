"""What goes on beside the calls, from the start to the end: the index is kept filled, the model is watched."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import NoReturn

from .archive.errors import ModelMismatch, StoreError, Unavailable
from .archive.grouping import warm_up
from .archive.ports import DerivedIndex, VectorSource
from .archive.service import ContentService
from .embedding.torchserve import TorchServeEmbedder

logger = logging.getLogger(__name__)

_PROBE_PAUSE_S = 2.0
_LOOK_PAUSE_S = 0.25
_REFILL_PAUSE_S = 1.0
_WARM_UP_AFTER_S = 5.0


async def watch_model(service: ContentService, embedder: TorchServeEmbedder) -> None:
    """Ask the model whenever nobody has had an answer for a while, so that its absence and return are noticed."""
    try:
        known = await _ask_model(service)
    except ModelMismatch as error:
        _end(error)
    if not known:
        logger.warning("the model cannot be checked yet; contents can be added and retrieved once it can")
    told: str | None = None
    while True:
        await asyncio.sleep(_PROBE_PAUSE_S)
        if known and embedder.silent_s() < _PROBE_PAUSE_S:
            continue
        try:
            known = await _ask_model(service, tell=not known)
        except ModelMismatch as error:
            if str(error) != told:
                logger.error("all calls that need the model are refused: %s", error)
                told = str(error)


async def _ask_model(service: ContentService, tell: bool = True) -> bool:
    """Whether the model answers. Raises ModelMismatch when it is not that of the stored vectors."""
    try:
        fingerprint = await service.model.check()
    except ModelMismatch:
        raise
    except Unavailable:
        return False
    if tell:
        logger.info("TorchServe serves %s", fingerprint)
        if ":untrained:" in fingerprint:
            logger.warning("UNTRAINED weights: everything works, but rankings carry no meaning")
    return True


def _end(error: Exception) -> NoReturn:
    """What was found out while others were served already makes a start impossible."""
    raise SystemExit(f"index_sidecar: cannot start: {error}") from error  # everything is closed on its way


async def warm_up_later() -> None:
    """A while after the start, which has enough to do."""
    await asyncio.sleep(_WARM_UP_AFTER_S)
    await asyncio.to_thread(warm_up)


async def keep_filled(service: ContentService, index: DerivedIndex, store: VectorSource) -> None:
    """Fill the index with all that its store holds, at the start and whenever it has failed; until then calls wait."""
    while True:
        started = time.monotonic()
        try:
            await index.load(store)
        except StoreError as error:
            _end(error)
        except Exception:
            logger.exception("the index cannot be filled from the store; trying again")
            await asyncio.sleep(_REFILL_PAUSE_S)
            continue
        service.set_ready()
        counts = await service.counts()
        logger.info("index ready: %d contents in %.1f s", sum(counts.values()), time.monotonic() - started)
        while service.is_ready():
            await asyncio.sleep(_LOOK_PAUSE_S)
