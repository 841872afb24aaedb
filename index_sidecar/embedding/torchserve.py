"""Embedder over HTTP: one pooled client of TorchServe's /predictions/clip."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import numpy as np

from ..archive.content import DIMENSION, ContentType, Embedding
from ..archive.errors import EmbedderUnavailable, InvalidInput, Overloaded, TooLarge, Unsupported
from ..archive.request_id import request_id, trace_parent

logger = logging.getLogger(__name__)

_REFUSALS: dict[int, type[InvalidInput]] = {400: InvalidInput, 413: TooLarge, 415: Unsupported}
_UNAVAILABLE = "the embedding model does not answer at the moment; try again later"
_TRIES = 3
_CONNECT_S = 2.0
# A picture that takes long is sent again each time it is asked for: so seldom, and few at a time.
_MOST_DECODING = 8
_DECODING_PAUSE_S = 0.05  # at first, and then a part of the time it has taken
_DECODING_PAUSE_SHARE = 0.2
_MOST_ANSWER_BYTES = 1 << 16  # a vector has 2,048, a reason some hundred
_LONGEST_FINGERPRINT = 256


class _TryAgain(Exception):
    """The request failed in a way that a second one, at once, can mend."""


class _StillDecoding(Exception):
    """The picture takes long: the model answers others meanwhile, and this request again."""


class TorchServeEmbedder:
    """`embed` through TorchServe at `url`, with the inference token from the key file it wrote at its start."""

    def __init__(self, url: str, key_file: Path, timeout_s: float, connections: int) -> None:
        self._url = f"{url.rstrip('/')}/predictions/clip"
        self._key_file = key_file
        self._token: str | None = None
        self._answers = False
        self._answered_at = -math.inf
        self._timeout_s = timeout_s
        self._decoding = asyncio.Semaphore(_MOST_DECODING)
        self._session = aiohttp.ClientSession(
            # Whoever asks for more at once waits here, within the timeout: so lanes.py does not.
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def silent_s(self) -> float:
        """For how many seconds there was no answer of the model."""
        return time.monotonic() - self._answered_at

    def answers(self) -> bool:
        """Whether the last call got an answer of the model."""
        return self._answers

    async def embed(self, data: bytes, content_type: ContentType, aside: Callable[[], None] | None = None) -> Embedding:
        """The unit vector of one text (UTF-8) or image file. Raises InvalidInput, Overloaded, EmbedderUnavailable.

        Overloaded also where no vector came in time although the model answered meanwhile: it is busy, not away.
        `aside` is called where the picture takes long to decode, and the model goes on without it.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    embedding = await self._request_again(data, content_type)
                except _StillDecoding:
                    self._answered()
                    if aside is not None:
                        aside()
                    embedding = await self._when_decoded(data, content_type, began)
        except (InvalidInput, Overloaded):
            self._answered()
            raise
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and self._answered_at > began:
                raise Overloaded("the embedding model has too much to do for this content; try again later") from error
            if self._answers:
                logger.warning("TorchServe does not answer any more: %s", error or type(error).__name__)
            self._answers = False
            raise EmbedderUnavailable(_UNAVAILABLE) from error
        except EmbedderUnavailable:
            self._answers = False
            raise
        self._answered()
        return embedding

    def _answered(self) -> None:
        self._answers = True
        self._answered_at = time.monotonic()

    async def _when_decoded(self, data: bytes, content_type: ContentType, began: float) -> Embedding:
        async with self._decoding:
            while True:
                await asyncio.sleep(max(_DECODING_PAUSE_S, _DECODING_PAUSE_SHARE * (time.monotonic() - began)))
                with contextlib.suppress(_StillDecoding):
                    return await self._request_again(data, content_type)
                self._answered()

    async def _request_again(self, data: bytes, content_type: ContentType) -> Embedding:
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self._request(data, content_type)
            except _TryAgain:
                pass
            except aiohttp.ConnectionTimeoutError:
                # On a busy machine it may be we who had no turn to see the connection made.
                if not (self._answers and tries_left):
                    raise
        raise EmbedderUnavailable(_UNAVAILABLE)

    async def _request(self, data: bytes, content_type: ContentType) -> Embedding:
        if self._token is None:
            self._token = self._read_token()
        token = self._token
        headers = {
            "authorization": f"Bearer {token}",
            "content-type": "application/octet-stream",
            "x-clip-type": content_type,  # TorchServe does not pass the query string of /predictions on
        }
        if (current := request_id.get()) is not None:
            headers["x-request-id"] = current
        if (parent := trace_parent.get()) is not None:
            headers["traceparent"] = parent
        try:
            async with self._session.post(
                self._url, params={"type": content_type}, data=io.BytesIO(data), headers=headers
            ) as response:
                body = await _read(response)
                status, answer = response.status, response.headers
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise _TryAgain from error  # a pooled connection TorchServe had closed, or reset, meanwhile
        fingerprint = answer.get("x-clip-model")
        if fingerprint is None:
            raise self._failure(status, body, token)
        if not (0 < len(fingerprint) <= _LONGEST_FINGERPRINT and fingerprint.isascii() and fingerprint.isprintable()):
            logger.error("the model calls itself %.200a: no line of ASCII, so it can be no fingerprint", fingerprint)
            raise EmbedderUnavailable(_UNAVAILABLE)
        if status == 200:
            return _embedding(body, fingerprint, answer.get("x-clip-truncated") == "true")
        raise _refusal(status, body)

    def _failure(self, status: int, body: bytes, token: str) -> Exception:
        """What an answer of TorchServe itself (not of our handler) means. Its text goes to the log only."""
        kind = _field(body, "type")
        if kind == "InvalidKeyException" or status in (401, 403):
            # A restarted TorchServe has written a new key file.
            self._token = self._read_token()
            if self._token != token:
                return _TryAgain()
            logger.error("TorchServe refuses the token in %s: is it the key file of this TorchServe?", self._key_file)
            return EmbedderUnavailable(_UNAVAILABLE)
        if status == 413:
            return TooLarge("the content is larger than TorchServe's max_request_size")
        if kind == "ServiceUnavailableException":
            return Overloaded("more contents wait for the embedding model than it can take; try again shortly")
        logger.error("TorchServe answered %d: %s", status, body[:500].decode("utf-8", "replace"))
        return EmbedderUnavailable(_UNAVAILABLE)

    def _read_token(self) -> str:
        try:
            return str(json.loads(self._key_file.read_bytes())["inference"]["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("no inference token in TORCHSERVE_KEY_FILE=%s yet: %s", self._key_file, error)
            raise EmbedderUnavailable(_UNAVAILABLE) from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MOST_ANSWER_BYTES:
            logger.error("TorchServe answered %d with more than %d bytes", response.status, _MOST_ANSWER_BYTES)
            raise EmbedderUnavailable(_UNAVAILABLE)
    return body


def _embedding(body: bytes, fingerprint: str, truncated: bool) -> Embedding:
    vector = np.frombuffer(body, "<f4") if len(body) == 4 * DIMENSION else np.zeros(0, np.float32)
    # Cosine similarity is the inner product only of unit vectors; anything else would poison the ranking for good.
    if vector.size != DIMENSION or not abs(float(vector @ vector) - 1.0) < 1e-3:
        logger.error("the model %s answered %d bytes that are no unit vector", fingerprint, len(body))
        raise EmbedderUnavailable("the embedding model gave no usable vector for this content")
    return Embedding(vector, fingerprint, truncated)


def _refusal(status: int, body: bytes) -> Exception:
    """What our handler says instead of a vector; the code and message of its 4xx are written for the caller."""
    code, message = _field(body, "code"), _field(body, "message")
    if status in _REFUSALS and code and message:
        return _REFUSALS[status](message, code)
    if (status, code) == (503, "still_decoding"):
        return _StillDecoding()
    logger.error("the handler answered %d: %s", status, body[:500].decode("utf-8", "replace"))
    return EmbedderUnavailable(_UNAVAILABLE)


def _field(body: bytes, name: str) -> str | None:
    try:
        value = json.loads(body).get(name)
    except (ValueError, AttributeError):
        return None
    return value if isinstance(value, str) else None
