"""What a request may carry: how much, and in which wrapping."""

from __future__ import annotations

import asyncio
import gzip
import logging
from dataclasses import replace

import aiohttp
import pytest

from index_sidecar.settings import Settings

from ..support.bodies import BOUNDARY, FORM, form_of, in_chunks, post_form, send_raw
from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import Sidecar, running

TEXT_LIMIT, IMAGE_LIMIT = 64 * 1024, 32 * 1024 * 1024


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("content_type", "limit"), [("text", TEXT_LIMIT), ("image", IMAGE_LIMIT)])
async def test_the_limit_of_each_type(
    sidecar: Sidecar, fake: FakeTorchServe, content_type: str, limit: int, chunked: bool
) -> None:
    fits = PNG.ljust(limit, b"\x00") if content_type == "image" else b"x" * limit
    too_large = fits + b"x"
    reply = await sidecar.add("a", in_chunks(too_large) if chunked else too_large, content_type)
    assert reply.error == (413, "too_large")
    assert len(fake.requests) == 1  # the question for the model at the start
    reply = await sidecar.add("a", in_chunks(fits) if chunked else fits, content_type)
    assert reply.status == 201
    assert fits in [request.data for request in fake.requests]


async def test_the_limits_hold_for_queries_too(sidecar: Sidecar) -> None:
    assert (await sidecar.retrieve(b"x" * (TEXT_LIMIT + 1))).error == (413, "too_large")
    assert (await sidecar.retrieve(b"x" * TEXT_LIMIT)).status == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [100, 2 * 1024 * 1024 + 1])  # more than what aiohttp takes by itself
async def test_the_first_field_of_a_form(sidecar: Sidecar, fake: FakeTorchServe, size: int, chunked: bool) -> None:
    data = PNG + b"\r\n--" + bytes(range(256)) * (size // 256 + 1)
    body = form_of(data, "Content-Type: image/png")
    assert (await post_form(sidecar, in_chunks(body) if chunked else body, "image")).status == 201
    assert fake.requests[-1].data == data


async def test_a_form_as_aiohttp_sends_it(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    form = aiohttp.FormData()
    form.add_field("anything", "Grüße".encode(), filename="a.txt")
    form.add_field("ignored", "second field")
    assert (await sidecar.add("a", form)).status == 201
    assert fake.requests[-1].data == "Grüße".encode()


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_limits_hold_for_what_a_form_wraps(sidecar: Sidecar, chunked: bool) -> None:
    fits, too_large = form_of(b"x" * TEXT_LIMIT), form_of(b"x" * (TEXT_LIMIT + 1))
    assert (await post_form(sidecar, in_chunks(too_large) if chunked else too_large)).error == (413, "too_large")
    assert (await post_form(sidecar, in_chunks(fits) if chunked else fits)).status == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        f"--{BOUNDARY}--\r\n".encode(),
        b"no form at all",
        form_of(b"text")[:-17],  # ends within the field
        form_of(b"text" * 10_000)[:-20_000],
        form_of(b"text", "a header without a colon"),
        form_of(b"text", "X-Long: " + "x" * 10_000),
        form_of(b"text", *(f"X-Many-{i}: x" for i in range(200))),
        form_of(b"text", f"Content-Type: multipart/mixed; boundary={BOUNDARY}"),
        form_of(b"text", "Content-Type: multipart/mixed"),
    ],
)
async def test_a_broken_form(sidecar: Sidecar, body: bytes) -> None:
    assert (await post_form(sidecar, body)).error == (400, "invalid_body")
    assert (await post_form(sidecar, in_chunks(body))).error == (400, "invalid_body")


async def test_a_form_without_boundary(sidecar: Sidecar) -> None:
    headers = {"Content-Type": "multipart/form-data"}
    reply = await sidecar.call("POST", "/add_content?id=a&type=text", b"text", headers=headers)
    assert reply.error == (400, "invalid_body")


async def test_a_body_in_which_there_is_hardly_anything(settings: Settings) -> None:
    async with running(replace(settings, max_image_bytes=4 << 20)) as sidecar:
        body, headers = gzip.compress(PNG.ljust(3 << 20, b"\x00")), {"Content-Encoding": "gzip"}
        reply = await sidecar.call("POST", "/add_content?id=a&type=image", body, headers=headers)
        assert reply.error == (413, "too_large")
        assert "uncompressed" in reply.json["error"]["message"]


async def test_json_is_no_content(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    body, headers = b'{"text": "a cat"}', {"Content-Type": "application/json; charset=utf-8"}
    for path in ("/add_content?id=a&type=text", "/retrieve?type=text"):
        reply = await sidecar.call("POST", path, body, headers=headers)
        assert reply.error == (415, "not_a_content")
        assert "send the content itself" in reply.json["error"]["message"]
    path = "/mv_retrieval/v0.1/add_content?id=a&type=text"  # takes what it always took
    assert (await sidecar.call("POST", path, body, headers=headers)).status == 201
    headers["Content-Type"] = "application/x-www-form-urlencoded"  # what curl says of anything
    assert (await sidecar.call("POST", "/add_content?id=b&type=text", b"text=a+cat", headers=headers)).status == 201
    assert fake.requests[-1].data == b"text=a+cat"


@pytest.mark.parametrize("form", [False, True])
async def test_a_client_that_leaves_in_the_middle_is_no_error_of_ours(
    sidecar: Sidecar, caplog: pytest.LogCaptureFixture, form: bool
) -> None:
    body = form_of(b"text")[:-25] if form else b"tex"
    head = f"Content-Length: {len(body) + 10}" + (f"\r\nContent-Type: {FORM['Content-Type']}" if form else "")
    await send_raw(sidecar, head, body, leave=True)
    await asyncio.sleep(0.05)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert (await sidecar.call("GET", "/contents/a")).status == 404
