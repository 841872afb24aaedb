"""What a client does when the way to the archive, or what answers there, is not as it should be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from clip_archive import (
    Archive,
    Item,
    NotAnArchive,
    PartlyFailed,
    Patience,
    Unavailable,
    Unreachable,
    VersionMismatch,
)
from clip_archive.address import address
from clip_archive.retries import retry_after_s

from ..support.sidecar import Sidecar, free_port
from .conftest import QUICK, client_of

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE = "<html><h1>Bad Gateway</h1></html>"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@contextlib.asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """A server that answers everything so; its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def error(status: int, code: str, /, **headers: str) -> web.Response:
    told = {"error": {"code": code, "message": "words", "request_id": "r"}}
    return web.json_response(told, status=status, headers=headers)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-1", None), ("1e9", None), ("7" * 400, None), ("²", None),
        ("0", 0.0), ("1.5", 1.5), (" 120 ", 120.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None), ("Fri, 99 Dec 2027 23:59:59 GMT", None),
    ],
)  # fmt: skip
def test_what_retry_after_says(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


@pytest.mark.parametrize("waits", ["0", "0.05", "Fri, 31 Dec 1999 23:59:59 GMT", "7" * 400, "soon"])
async def test_what_may_succeed_later_is_tried_again(kind: str, waits: str) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if len(asked) < 3:
            status, code = (429, "too_many_requests") if len(asked) == 1 else (503, "overloaded")
            return error(status, code, **{"Retry-After": waits})
        return web.json_response({"status": "alive"})

    async with server(answer) as url:
        client = client_of(kind, url)
        assert (await client.livez()).status == "alive"
        assert len(asked) == 3
        await client.close()


async def test_a_long_wait_is_capped_and_never_outlives_the_call(kind: str) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(time.monotonic())
        return error(503, "not_ready", **{"Retry-After": "Fri, 31 Dec 2099 23:59:59 GMT"})

    async with server(answer) as url:
        client = client_of(kind, url, patience=Patience(within_s=10, attempts=3, pause_s=0.02, wait_most_s=0.1))
        with pytest.raises(Unavailable) as raised:
            await client.livez()
        assert (len(asked), raised.value.retryable) == (3, True)
        assert asked[-1] - asked[0] < 5
        await client.close()
        client = client_of(kind, url, patience=Patience(within_s=5, attempts=3, wait_most_s=60))
        with pytest.raises(Unavailable):
            await client.livez()
        assert len(asked) == 4  # a wait that ends behind the call's time is none
        await client.close()


async def test_what_may_have_been_done_is_not_done_twice(kind: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        await request.read()
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(1)
        return web.Response()

    async with server(answer) as url:
        client = client_of(kind, url)
        with pytest.raises(Unreachable):
            await client.delete_content("a")
        with pytest.raises(Unreachable):
            await client.add_content("a", "text", only_new=True)
        with pytest.raises(PartlyFailed):
            await client.add_contents([Item("a", "text")], only_new=True)
        assert len(asked) == 3
        with pytest.raises(Unreachable):
            await client.add_content("a", "text")
        assert len(asked) == 3 + QUICK.attempts
        await client.close()


async def test_only_what_failed_for_now_is_sent_again(kind: str) -> None:
    sent: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        form = await request.multipart()
        parts = 0
        while (part := await form.next()) is not None:
            await part.read()  # type: ignore[union-attr]
            parts += 1
        sent.append(parts)
        told = {
            "id": "x",
            "type": "text",
            "status": "added",
            "duplicate_of": [],
            "truncated": False,
            "msg": "",
            "time": 0,
        }
        busy, bad = ({"code": each, "message": "", "request_id": ""} for each in ("overloaded", "empty_text"))
        lines: list[Any] = [{"part": number + 1, "content": told} for number in range(parts)]
        if len(sent) == 1:
            lines[1:3] = [{"part": 2, "id": "b", "error": busy}, {"part": 3, "id": "c", "error": bad}]
        if len(sent) == 2:
            return web.Response(text="", content_type="application/x-ndjson")  # cut off before its first line
        lines.append({"summary": {"added": 0, "replaced": 0, "unchanged": 0, "failed": 0, "complete": True}})
        body = "\n".join(web.json_response(each).text or "" for each in lines) + "\n"
        return web.Response(text=body, content_type="application/x-ndjson")

    async with server(answer) as url:
        client = client_of(kind, url)
        with pytest.raises(PartlyFailed) as raised:
            await client.add_contents([Item(each, f"text {each}") for each in "abcd"])
        assert [each.id for each in raised.value.failures] == ["c"]
        assert len(raised.value.added) == 3
        assert sent == [4, 1, 1]
        await client.close()


@pytest.mark.parametrize("status", [200, 413, 502, 504])
async def test_a_page_is_no_answer(kind: str, status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=PAGE, content_type="text/html", headers={"X-Request-ID": "proxy-1"})

    async with server(answer) as url:
        client = client_of(kind, url, "clipk_secret")
        with pytest.raises(NotAnArchive, match="Bad Gateway") as raised:
            await client.retrieve("text")
        assert (raised.value.status, raised.value.request_id) == (status, "proxy-1")
        assert raised.value.retryable == (status in (502, 504))
        assert "secret" not in f"{raised.value!s}{raised.value!r}{client!r}"
        with pytest.raises((NotAnArchive, PartlyFailed), match="Bad Gateway"):
            await client.add_contents([Item("a", "text")])
        await client.close()


async def test_a_redirect_is_told_and_no_key_goes_there(kind: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": "https://archive.example.org/livez"})

    async with server(answer) as url:
        client = client_of(kind, url)
        with pytest.raises(NotAnArchive, match=r"archive\.example\.org"):
            await client.livez()
        await client.close()


async def test_nobody_is_there(kind: str) -> None:
    client = client_of(kind, f"http://127.0.0.1:{free_port()}", patience=Patience(attempts=2, pause_s=0.02))
    with pytest.raises(Unreachable, match="cannot be reached") as raised:
        await client.delete_content("a")
    assert raised.value.surely_undone
    await client.close()


async def test_silence_ends_a_call_and_an_answer_that_goes_on_may_go_on(kind: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in ('{"status"', ":", '"alive"', "}"):
            await asyncio.sleep(0.2 if request.query.get("id") is None else 1.5)
            await response.write(piece.encode())
        return response

    async with server(answer) as url:
        client = client_of(kind, url, patience=Patience(silence_s=0.6, attempts=1))
        assert (await client.livez()).status == "alive"  # in 0.8 s
        with pytest.raises(Unreachable, match="in time"):
            await client.get_content("a")
        await client.close()


async def test_versions_that_do_not_fit_are_named(kind: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/openapi.json":
            paths: Any = {"/retrieve": {"post": {}}, "/contents": {"get": {}}, "/health": {"get": {}}}
            return web.json_response({"info": {"version": "9.3.1"}, "paths": paths})
        if request.path == "/retrieve":
            return error(400, "unknown_parameter")
        if request.path == "/health":
            return web.json_response({"version": "9.3.1", "how": "well"})
        return error(404, "not_found")

    async with server(answer) as url:
        client = client_of(kind, url)
        told = r"this client is of version 0\.\d\.\d+, the archive of version 9\.3\.1\..*Update the client"
        with pytest.raises(VersionMismatch, match=told):
            await client.retrieve("text", fold=True)
        with pytest.raises(VersionMismatch, match=told):
            await client.health()
        with pytest.raises(VersionMismatch, match="no call POST /search"):
            await client.search([])
        with pytest.raises(Exception, match="not_found") as missing:
            await client.get_content("a")
        assert not isinstance(missing.value, VersionMismatch)  # it has the call: the id is not there
        await client.close()


async def test_a_path_below_a_host_is_kept(sidecar: Sidecar, kind: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.raw_path.startswith("/tools/cl%20ip/")
        rest = request.raw_path.removeprefix("/tools/cl%20ip")
        reply = await sidecar.call(request.method, rest, await request.read(), headers={"Content-Type": "text/plain"})
        return web.json_response(reply.json | {"time": 0}, status=reply.status)

    async with server(answer) as url:
        client = client_of(kind, f"{url}/tools/cl ip/")
        assert (await client.add_content("a/ü#?", "text")).id == "a/ü#?"
        assert (await client.get_content("a/ü#?")).type == "text"
        await client.close()


def test_addresses_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLIP_ARCHIVE_URL", "CLIP_ARCHIVE_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert address().url == "http://127.0.0.1:8090"
    assert address("https://x.org/tools/clip/").to("/livez") == "https://x.org/tools/clip/livez"
    assert address("http://[::1]:8080").to("/contents", {"id": "a/b%#"}) == "http://[::1]:8080/contents?id=a%2Fb%25%23"
    monkeypatch.setenv("CLIP_ARCHIVE_URL", "https://archive.example.org")
    monkeypatch.setenv("CLIP_ARCHIVE_KEY", "clipk_abc\n")
    assert (address().url, address().headers) == ("https://archive.example.org", {"Authorization": "Bearer clipk_abc"})
    assert "clipk_abc" not in repr(address())
    for wrong in (
        "localhost:8090",
        "ftp://x.org",
        "http://",
        "http://x.org:port",
        "http://u:p@x.org",
        "http://x.org/?a",
    ):
        with pytest.raises(ValueError, match="address"):
            address(wrong)
    with pytest.raises(ValueError, match="API key") as raised:
        address(key="two words")
    assert "two words" not in str(raised.value)


def test_it_is_closed_with_its_block(settings: Any) -> None:
    with Archive("http://127.0.0.1:1") as archive:
        assert "127.0.0.1" in repr(archive)
    with pytest.raises(RuntimeError):
        archive.livez()
