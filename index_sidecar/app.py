"""The composition root: the only module that knows which store, embedder and index there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from .body import Bodies
from .content import ModelMismatch, Unavailable
from .faiss_index import FaissIndex
from .routes import BODIES, EMBEDDER, SERVICE, SETTINGS, add_routes
from .service import ContentService
from .settings import Settings
from .store import Store
from .torchserve import TorchServeEmbedder

logger = logging.getLogger(__name__)

_PROBE_PAUSE_S = 2.0


def create_app(settings: Settings) -> web.Application:
    """The sidecar as an aiohttp application. Its start raises StoreError or ModelMismatch when it must not run."""
    app = web.Application()
    app[SETTINGS] = settings
    app[BODIES] = Bodies(settings.max_inflight_bytes, settings.body_timeout_s)
    add_routes(app)
    app.cleanup_ctx.append(_parts)
    return app


async def _parts(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    async with contextlib.AsyncExitStack() as stack:
        store = Store(settings.data_dir / "contents.sqlite")
        stack.push_async_callback(store.close)
        index = FaissIndex(
            settings.data_dir,
            settings.index_dtype,
            settings.index_exact_rows,
            settings.index_recall,
            settings.index_snapshot_rows,
        )
        stack.push_async_callback(index.close)
        embedder = TorchServeEmbedder(
            settings.torchserve_url,
            settings.torchserve_key_file,
            settings.torchserve_timeout_s,
            settings.torchserve_connections,
        )
        stack.push_async_callback(embedder.close)
        app[EMBEDDER] = embedder
        service = app[SERVICE] = ContentService(store, embedder, index)
        first_check = await _check_model(service)
        tasks = [asyncio.create_task(_load(service))]
        if not first_check:
            tasks.append(asyncio.create_task(_keep_checking(service)))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _check_model(service: ContentService) -> bool:
    """Whether TorchServe answered, and with the right model. Raises ModelMismatch: then the sidecar must not start."""
    try:
        fingerprint = await service.check_model()
    except ModelMismatch:
        raise
    except Unavailable:
        return False
    logger.info("TorchServe serves %s", fingerprint)
    if ":untrained:" in fingerprint:
        logger.warning("UNTRAINED weights: everything works, but rankings carry no meaning")
    return True


async def _keep_checking(service: ContentService) -> None:
    """TorchServe was not there at our start: ask until it is. From then on every call checks the model it gets."""
    logger.warning("TorchServe does not answer yet; contents can be added and retrieved once it does")
    try:
        while not await _check_model(service):
            await asyncio.sleep(_PROBE_PAUSE_S)
    except ModelMismatch as error:
        logger.error("all calls that need the model will be refused: %s", error)


async def _load(service: ContentService) -> None:
    try:
        await service.load_index()
    except Exception:
        logger.exception("the index cannot be filled from the store")
        raise
