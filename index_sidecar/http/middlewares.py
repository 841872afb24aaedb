"""What happens around every request, and to every answer's head. app.py lists these in their order.

aiohttp 3 takes a middleware without its decorator for a factory of the old kind; aiohttp 4 needs it no more.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import time
import uuid

from aiohttp import web
from aiohttp.typedefs import Handler

from ..access.roles import OWNER
from ..archive.errors import ContentError
from ..archive.request_id import request_id
from ..archive.stages import spent
from . import answers, failures
from .auth import CALLER
from .codes import code_of

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("index_sidecar.access")

CODE = web.RequestKey("code", str)
"""Of the error that a request ends in."""

_SAFE_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TOGETHER_S = 1.0


class Refusals:
    """Refusals for overload: one line a second tells how many, so that the log costs less than what is refused."""

    def __init__(self) -> None:
        self._count = 0

    def count(self) -> None:
        """One more."""
        self._count += 1
        if self._count == 1:
            # Not in the context of the first of them, whose id is not that of all.
            asyncio.get_running_loop().call_later(_TOGETHER_S, self._tell, context=contextvars.Context())

    def _tell(self) -> None:
        access_logger.warning("refused for overload", extra={"status": 503, "count": self._count})
        self._count = 0


REFUSALS = web.AppKey("refusals", Refusals)


@web.middleware
async def name_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its caller's id, or a new one."""
    begin_request(request)
    return await handler(request)


async def tell_name(request: web.Request, response: web.StreamResponse) -> None:
    """Say the request's id in the answer's head, too."""
    answers.name_request(response)


def begin_request(request: web.BaseRequest) -> None:
    """Set the request's id. aiohttp serves each request in a task of its own, with which this ends."""
    given = request.headers.get("X-Request-ID", "")
    request_id.set(given if _SAFE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)


@web.middleware
async def log_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write one line about the request: its route, not its path, for ids and users are the archive's business.

    Of requests refused for overload, one line a second about all of them.
    """
    started = time.perf_counter()
    response = await handler(request)
    if request.get(CODE) == "overloaded":
        request.app[REFUSALS].count()
        return response
    fields: dict[str, object] = {
        "method": request.method,
        "route": route_of(request),
        "status": response.status,
        "ms": round((time.perf_counter() - started) * 1000, 1),
        "bytes_in": request.content_length or 0,
        "bytes_out": response.content_length or response.body_length,
    }
    if CODE in request:
        fields["code"] = request[CODE]
    if stages := spent():
        fields["stages"] = {stage: round(seconds * 1000, 1) for stage, seconds in stages.items()}
    caller = request.get(CALLER)
    if caller is not None and caller is not OWNER:
        fields["key"] = caller.name
    access_logger.info("request", extra=fields)
    return response


def route_of(request: web.Request) -> str:
    """The template of its path."""
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a call raises into an answer; what nobody foresaw goes to the log."""
    try:
        return await handler(request)
    except ContentError as error:
        request[CODE] = code_of(error)[0]
        return failures.content_error(error)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        request[CODE] = failures.NO_CALL[error.status]
        return failures.no_call(error, f"{request.method} {request.rel_url.raw_path}")
    except ConnectionResetError:
        raise  # the caller has left: nobody to answer
    except Exception:
        logger.exception("unexpected error")
        request[CODE] = "internal"
        return failures.internal()
