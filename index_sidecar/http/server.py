"""The server under the application: connections that end, and JSON errors also for what never becomes a request.

aiohttp answers by itself, in plain text, what it cannot parse and what fails before a route is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from . import answers, failures
from .door import DOOR, Door
from .guard import secure
from .middlewares import access_logger, begin_request
from .tls import Certificate

logger = logging.getLogger(__name__)

_READ_BYTES = 1 << 16  # of a body that nobody reads yet
_NO_REQUEST = "this is no HTTP request: all of an address has to be ASCII, percent-encoded, and one Host be named"
_LINGER_S = 5.0  # how long the rest of a body is read and forgotten, so that its sender sees the answer
_TAKE_S, _ROUNDS = 0.05, 20
_FOR_REQUESTS = 0.8  # of the time for an end: what is left is for the writes under way and the files

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Runner(web.AppRunner):
    """Runs the application; a connection that waits `idle_s` for a request, or amid its head, is closed.

    At the end, requests under way are given most of `end_s`.
    """

    def __init__(self, app: web.Application, idle_s: float, end_s: float = 60.0) -> None:
        super().__init__(app, shutdown_timeout=_FOR_REQUESTS * end_s)
        self._idle_s = idle_s

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            _before_routes(made.request_handler, self.app[DOOR]),
            request_factory=made.request_factory,
            handler_cancellation=True,  # who has left costs nothing more; a write that has begun goes on (writes.py)
            keepalive_timeout=self._idle_s,
            lingering_time=_LINGER_S,
            read_bufsize=_READ_BYTES,
            auto_decompress=False,  # unpacking.py is stricter
            access_log=None,  # middlewares.py writes it
        )


async def serve(
    app: web.Application, host: str, port: int, idle_s: float, end_s: float, certificate: Certificate | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, by HTTPS where there is a certificate. A second one changes nothing: it ends.

    The process is gone `end_s` after the signal, with exit code 1 where something hangs. Raises what the application's
    start raises, and OSError for a port in use.
    """
    this = asyncio.current_task()
    assert this is not None
    ending = False

    def end() -> None:
        nonlocal ending
        if not ending:
            ending = True
            _end_within(end_s)
            this.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    runner = Runner(app, idle_s, end_s)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await runner.setup()
            await _site(runner, host, port, certificate.context if certificate else None).start()
            logger.info("listening on %s", ", ".join(f"{address[0]}:{address[1]}" for address in runner.addresses))
            await (certificate.follow() if certificate else asyncio.Event().wait())
    finally:
        await _take_what_waits()
        await runner.cleanup()


async def _take_what_waits() -> None:
    """Begin with the requests that the system has taken for us: they are lost when the port closes before that.

    A new connection needs some rounds of the loop until its request is under way.
    """
    await asyncio.sleep(_TAKE_S)
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


def _end_within(seconds: float) -> None:
    """End the process then, if it still is there. A thread that waits for the disk cannot be ended otherwise.

    Nothing acknowledged is lost by that: it is on the disk. What is under way is done or not, as nobody was told.
    """

    def end() -> None:
        logger.error(
            "not ended within %g s: something hangs, perhaps the disk. What was acknowledged is stored; ending now",
            seconds,
        )
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True  # it goes with the process that ends by itself
    timer.start()


def _site(runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None) -> web.BaseSite:
    """Where to listen. asyncio makes `::` IPv6 alone; who writes it means every address, those of IPv4 too."""
    if host != "::":
        return web.TCPSite(runner, host, port, ssl_context=context)
    both = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
    return web.SockSite(runner, both, ssl_context=context)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request, and to what failed outside the middlewares; then the connection ends."""
        if request.writer.output_size > 0:
            raise ConnectionResetError("a part of the answer is sent already")
        begin_request(request)
        if isinstance(exc, LineTooLong):
            answer = failures.error("head_too_large", f"a line of the request is longer than {self.max_line_size}")
        elif isinstance(exc, HttpProcessingError):
            answer = failures.error("invalid_request", _NO_REQUEST)
        else:
            answer = failures.internal()
        if isinstance(exc, HttpProcessingError):
            # What was sent stays out of the log: it may hold ids, and lines of its own.
            logger.info("refused what is no HTTP request: %s", type(exc).__name__)
        elif not isinstance(exc, ConnectionError):  # the caller has left
            logger.error("unexpected error outside a call", exc_info=exc)
        return _closing(request, answer)


def _before_routes(handler: _Handler, door: Door) -> _Handler:
    """`handler`, with an answer of ours to what is refused before any middleware."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if (refused := door.turn_away(request)) is not None:
            return refused
        if request.headers.get("Expect", "100-continue").lower() == "100-continue":
            return await handler(request)
        begin_request(request)
        return _closing(request, failures.error("unknown_expectation", "Expect may only be 100-continue"))

    return handle


def _closing(request: web.BaseRequest, answer: web.StreamResponse) -> web.StreamResponse:
    """What the middlewares do to every answer; and the end of the connection, on which anything may follow."""
    answers.name_request(answer)
    secure(answer)
    access_logger.info("request", extra={"method": request.method, "route": "unmatched", "status": answer.status})
    answer.force_close()
    return answer
