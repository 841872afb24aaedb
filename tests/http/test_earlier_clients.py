"""The calls of existing clients."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any
from urllib.parse import urlencode

import pytest

from ..support.answers import added, score_of
from ..support.fake_torchserve import PNG
from ..support.sidecar import AUTHORIZATION, Sidecar


def _as_an_old_client(url: str, path: str, data: bytes, **query: str) -> bytes:
    """urllib sends the content type application/x-www-form-urlencoded with a raw body."""
    address = f"{url}/mv_retrieval/v0.1/{path}?{urlencode(query)}"
    request = urllib.request.Request(address, data, dict(AUTHORIZATION), method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert request.get_header("Content-type") == "application/x-www-form-urlencoded"
        body: bytes = response.read()
        return body


async def test_the_historical_calls(sidecar: Sidecar) -> None:
    async def call(path: str, data: bytes, **query: str) -> Any:
        body = await asyncio.to_thread(_as_an_old_client, sidecar.url, path, data, **query)
        reply: Any = json.loads(body)
        assert reply.pop("time") >= 0
        return reply

    text, image, other = b"a=1&b=%20+c d", PNG + b"\r\n\x00=&", b"another text"
    assert await call("add_content", text, id="1", type="text", user="ann") == added("1")
    assert await call("add_content", image, id="2", type="image") == added("2", "image")
    assert await call("add_content", other, id="3", type="text") == added("3")
    one = pytest.approx(1.0, abs=1e-5)
    query = (text, "text")
    assert await call("retrieve_contents", text, type="text", k="1") == {
        "text": {"contents": ["1"], "scores": [one]},
        "image": {"contents": ["2"], "scores": [score_of(query, (image, "image"))]},
        "truncated": False,
    }
    assert await call("retrieve_contents", text, type="text", k="5", user="ann") == {
        "text": {"contents": ["3"], "scores": [score_of(query, (other, "text"))]},
        "image": {"contents": ["2"], "scores": [score_of(query, (image, "image"))]},
        "truncated": False,
    }
    found = await call("retrieve_contents", image, type="image", k="1")
    assert found["image"] == {"contents": ["2"], "scores": [one]}
