"""Bodies that are compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from ..support.bodies import FORM, form_of
from ..support.fake_torchserve import FakeTorchServe
from ..support.sidecar import Sidecar
from ..support.wire import request, send

TEXT_LIMIT, IMAGE_LIMIT = 64 * 1024, 32 * 1024 * 1024


async def test_a_compressed_body_is_taken_as_what_it_holds(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    path, headers = "/add_content?id=a&type=text", {"Content-Encoding": "gzip"}
    assert (await sidecar.call("POST", path, gzip.compress(b"x" * TEXT_LIMIT), headers=headers)).status == 201
    assert fake.requests[-1].data == b"x" * TEXT_LIMIT
    bomb = gzip.compress(b"x" * (TEXT_LIMIT + 1))
    assert (await sidecar.call("POST", path, bomb, headers=headers)).error == (413, "too_large")


WORDS = b"a cat sits on a roof " * 50


DEFLATED = zlib.compress(WORDS)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(WORDS, mtime=0)),
        ("x-gzip", gzip.compress(WORDS, mtime=0)),
        ("GZIP", gzip.compress(WORDS[:7], mtime=0) + gzip.compress(WORDS[7:], mtime=0)),  # files in a row are one
        ("deflate", DEFLATED),
        ("deflate", DEFLATED[2:-4]),  # without zlib's frame
        ("identity", WORDS),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_what_is_compressed_in_a_way_we_know(
    sidecar: Sidecar, fake: FakeTorchServe, encoding: str, body: bytes, size: int
) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    headers = {"Content-Encoding": encoding}
    reply = await sidecar.call("POST", "/add_content?id=a&type=text", in_pieces(), headers=headers)
    assert reply.status == 201
    assert fake.requests[-1].data == WORDS


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"no gzip at all"),
        ("gzip", b""),
        ("gzip", gzip.compress(WORDS, mtime=0)[:-12]),
        ("gzip", gzip.compress(WORDS, mtime=0)[:-1]),  # a part of the checksum
        ("gzip", gzip.compress(WORDS, mtime=0)[:-8] + bytes(8)),
        ("gzip", gzip.compress(WORDS, mtime=0) + b"and more"),
        ("deflate", DEFLATED[:-1]),
        ("deflate", DEFLATED[2:-8]),
        ("deflate", DEFLATED + b"and more"),
    ],
)
async def test_a_broken_compressed_body(sidecar: Sidecar, encoding: str, body: bytes) -> None:
    data = request("/add_content?id=a&type=text", body, f"Content-Encoding: {encoding}")
    assert (await send(sidecar, data)).error == (400, "invalid_body")
    assert (await sidecar.call("GET", "/contents/a")).status == 404


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "UTF-8", "aws-chunked", "gzip, gzip", "gzip, identity"])
async def test_what_is_compressed_in_a_way_we_do_not_know(sidecar: Sidecar, encoding: str) -> None:
    data = request("/add_content?id=a&type=text", b"a cat", f"Content-Encoding: {encoding}")
    assert (await send(sidecar, data)).error == (415, "unsupported_encoding")


async def test_a_form_is_not_compressed_as_a_whole(sidecar: Sidecar) -> None:
    headers = {**FORM, "Content-Encoding": "gzip"}
    reply = await sidecar.call("POST", "/add_content?id=a&type=text", gzip.compress(form_of(b"text")), headers=headers)
    assert reply.error == (415, "unsupported_encoding")
