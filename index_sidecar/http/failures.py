"""What goes wrong -> the answer that says so, in the one shape all errors have."""

from __future__ import annotations

from aiohttp import web

from ..archive.errors import ContentError, TooManyRequests, Unauthorized, Unavailable
from ..archive.request_id import request_id
from .answers import json
from .codes import CODES, code_of
from .shapes import Error, ErrorAnswer

_INTERNAL = "an unexpected error, which the log describes"
NO_CALL = {404: "not_found", 405: "method_not_allowed"}


def content_error(failure: ContentError) -> web.Response:
    """The answer to a request that ends without its result."""
    word, status = code_of(failure)
    response = _answer(status, word, str(failure))
    if isinstance(failure, Unauthorized):
        # RFC 6750: a request without a key is told the scheme alone.
        told = ', error="invalid_token"' if failure.code == "invalid_key" else ""
        response.headers["WWW-Authenticate"] = f'Bearer realm="clip-archive"{told}'
    if isinstance(failure, Unavailable | TooManyRequests):
        response.headers["Retry-After"] = str(failure.retry_after_s)
    return response


def told(failure: Exception) -> Error:
    """A failure within an answer that has begun; of what nobody foresaw it says nothing."""
    if not isinstance(failure, ContentError):
        return Error("internal", _INTERNAL, request_id.get() or "")
    return Error(code_of(failure)[0], _sound(str(failure)), request_id.get() or "")


def no_call(failure: web.HTTPException, asked: str) -> web.Response:
    """The answer where `asked`, a method and a path, is no call of ours."""
    response = error(NO_CALL[failure.status], f"{failure.reason}: {asked}")
    if "Allow" in failure.headers:
        response.headers["Allow"] = failure.headers["Allow"]
    return response


def internal() -> web.Response:
    """The answer to what nobody foresaw: it says nothing of us."""
    return error("internal", _INTERNAL)


def error(code: str, message: str) -> web.Response:
    """An error with a code of the table."""
    return _answer(CODES[code].status, code, message)


def _answer(status: int, code: str, message: str) -> web.Response:
    return json(ErrorAnswer(Error(code, _sound(message), request_id.get() or "")), status)


def _sound(message: str) -> str:
    # A half of a character that JSON named alone can come with what was sent.
    return message.encode("utf-8", "replace").decode()
