"""The composition root: the only module that knows which store, embedder and index there are."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from . import __version__
from .access.keys import Keys
from .archive.content import ContentType
from .archive.errors import StoreError, Unavailable
from .archive.exporter import Exporter
from .archive.model import Model
from .archive.originals import KEPT_TYPES
from .archive.query_cache import QueryCache
from .archive.service import ContentService
from .background import keep_filled, warm_up_later, watch_model
from .embedding.previews import Previews
from .embedding.torchserve import TorchServeEmbedder
from .http.auth import ACCESS, Access, identify, tell_quotas
from .http.body import Bodies
from .http.codes import CODES
from .http.door import DOOR, Door
from .http.export import EXPORTER
from .http.guard import GUARD, Guard, answer_preflights, keep_foreign_pages_out, tell_browsers
from .http.handlers import BODIES, EMBEDDER, SERVICE
from .http.metrics import METRICS, measure
from .http.middlewares import REFUSALS, Refusals, answer_errors, log_access, name_request, tell_name
from .http.openapi import document
from .http.pages import CONTRACT
from .http.peers import Peers
from .http.rates import Rates, rate
from .http.routes import CALLS, add_routes
from .http.tracing import traced_by
from .qdrant.collection import QdrantCollection
from .qdrant.index import QdrantIndex
from .qdrant.nodes import Nodes
from .qdrant.store import QdrantStore
from .qdrant.url import qdrant_url
from .settings import Settings
from .sqlite.store import SqliteStore
from .telemetry.metrics import Metrics
from .vectors.index import FaissIndex

logger = logging.getLogger(__name__)

_SETTINGS = web.AppKey("settings", Settings)
_WRITE_LIMIT_S = 30.0  # a disk that takes longer hangs
_CALLS_A_WRITE = 4  # to a cluster, at most


def create_app(settings: Settings) -> web.Application:
    """The sidecar as an aiohttp application. Its start raises StoreError or ModelMismatch when it must not run."""
    # From the outside in, and door.py before all of them. The request's name comes first, for all that is logged
    # within bears it; the access log sees the status that goes out, so errors become answers within it. Foreign pages
    # are kept out before anybody asks whose key it is.
    order = [name_request, measure, log_access, answer_preflights, answer_errors, keep_foreign_pages_out, identify]
    app = web.Application(middlewares=order)
    # To the head of every answer as it goes out, also of one that streams and of one that refuses.
    app.on_response_prepare.extend([tell_name, tell_browsers, tell_quotas])
    app[METRICS] = Metrics(CODES)
    app[REFUSALS] = Refusals()
    app[DOOR] = Door(CALLS, app[REFUSALS])
    if settings.otel_exporter_otlp_endpoint:
        _trace(app, settings.otel_exporter_otlp_endpoint)
    app[GUARD] = _guard(settings)
    app[ACCESS] = _access(settings)
    app[_SETTINGS] = settings
    limits: dict[ContentType, int] = {"text": settings.max_text_bytes, "image": settings.max_image_bytes}
    app[BODIES] = Bodies(settings.max_inflight_bytes, limits, settings.body_timeout_s, settings.body_idle_s)
    app[CONTRACT] = _contract(tuple(limits.items()), settings.access == "keys")
    add_routes(app)
    app.cleanup_ctx.append(_parts)
    return app


@functools.lru_cache(16)  # a process that makes one application after the other, as tests do, writes it once
def _contract(limits: tuple[tuple[ContentType, int], ...], needs_key: bool) -> bytes:
    return document(CALLS, dict(limits), needs_key)


def _trace(app: web.Application, collector: str) -> None:
    """Send a trace of each request to a collector. Raises StoreError where the packages for it are not installed."""
    try:
        from .telemetry.tracing import Tracing  # which takes 0.3 s, and is not installed everywhere
    except ImportError as error:
        raise StoreError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT needs OpenTelemetry ({error}): pip install 'clip-archive[otel]'"
        ) from error
    tracing = Tracing(collector, __version__)
    app.middlewares.insert(1, traced_by(tracing))
    app.on_cleanup.append(lambda _: asyncio.to_thread(tracing.close))


def _guard(settings: Settings) -> Guard:
    hosts = None if settings.access == "keys" else (settings.host, *settings.allowed_hosts)
    return Guard(hosts, settings.cors_origins)


def _access(settings: Settings) -> Access:
    """Raises KeysError when the API keys cannot be read."""
    keys = None
    if settings.access == "keys":
        keys = Keys(settings.path_of_keys, settings.admin_key_file, settings.data_dir / "keys-used.json")
        if not len(keys):
            logger.warning("no API keys yet: `python -m index_sidecar keys add NAME --role admin` makes one")
    rates = Rates(rate(settings.rate_limit), rate(settings.model_rate_limit), settings.concurrent_requests)
    return Access(keys, Peers(settings.trusted_proxies), rates, settings.audit_ids)


async def _parts(app: web.Application) -> AsyncIterator[None]:
    settings = app[_SETTINGS]
    async with contextlib.AsyncExitStack() as stack:
        previews = Previews(settings.previews, settings.max_decode_bytes)
        stack.callback(previews.close)
        embedder = TorchServeEmbedder(
            settings.torchserve_url,
            settings.torchserve_key_file,
            settings.torchserve_timeout_s,
            settings.torchserve_connections,
        )
        stack.push_async_callback(embedder.close)
        app[EMBEDDER] = embedder
        queries = QueryCache(settings.query_cache_bytes)
        keeps = KEPT_TYPES[settings.originals]
        if settings.index_url == "faiss":
            store, index = _on_this_machine(settings, stack)
            model = Model(embedder, store, queries, settings.queue_s, settings.torchserve_connections)
            service = ContentService(
                store, model, index, previews, settings.erase_wait_s, settings.queue_s, _WRITE_LIMIT_S, keeps
            )
            work = [keep_filled(service, index, store)]
            app[EXPORTER] = Exporter(store)
        else:
            collection = await _collection(settings)
            stack.push_async_callback(collection.close)
            on_cluster = QdrantIndex(collection, settings.qdrant_hnsw_ef)
            on_nodes = QdrantStore(collection)
            limit_s = _CALLS_A_WRITE * settings.qdrant_timeout_s + _WRITE_LIMIT_S  # each has its own limit
            model = Model(embedder, on_nodes, queries, settings.queue_s, settings.torchserve_connections)
            service = ContentService(
                on_nodes, model, on_cluster, previews, settings.erase_wait_s, settings.queue_s, limit_s, keeps
            )
            service.set_ready()
            work = []
            app[EXPORTER] = Exporter(on_nodes)
        stack.push_async_callback(service.finish)
        app[SERVICE] = service
        work += [watch_model(service, embedder), app[DOOR].watch(service.model.refusal), warm_up_later()]
        tasks = [asyncio.create_task(each) for each in work]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _on_this_machine(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[SqliteStore, FaissIndex]:
    """SQLite and Faiss, closed with `stack`. Raises StoreError."""
    store = SqliteStore(settings.data_dir / "contents.sqlite", backup_dir=settings.backup_dir)
    stack.push_async_callback(store.close)
    index = FaissIndex(
        settings.data_dir,
        settings.index_dtype,
        settings.index_exact_rows,
        settings.index_recall,
    )
    stack.push_async_callback(index.close)
    return store, index


async def _collection(settings: Settings) -> QdrantCollection:
    """The contents on the cluster, which need not answer yet. Raises StoreError when they can never be used."""
    url = qdrant_url(settings.index_url)
    nodes = Nodes(url.nodes, settings.qdrant_api_key_file, settings.qdrant_timeout_s)
    collection = QdrantCollection(nodes, url.collection, settings.qdrant_shards, settings.qdrant_replication)
    try:
        await collection.check()
    except Unavailable:
        logger.warning("Qdrant does not answer yet; calls are served once it does")
    except BaseException:
        await collection.close()
        raise
    return collection
