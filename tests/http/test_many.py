"""POST /contents: many contents in one call, a line for each as soon as it is durable, and a bad one costs itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support import contract
from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import Sidecar, running

BOUNDARY = "x-boundary-x"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def _part(data: bytes, **parameters: str) -> bytes:
    head = f'Content-Disposition: form-data; name="content"\r\nX-Content-Parameters: {urlencode(parameters)}\r\n\r\n'
    return f"--{BOUNDARY}\r\n{head}".encode() + data + b"\r\n"


def _encoded(data: bytes) -> bytes:
    head, body = _part(data, id="odd", type="text").split(b"\r\n\r\n")
    return head + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body


def _form(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def _send(sidecar: Sidecar, body: Any, **headers: str) -> list[Any]:
    """The lines, as they came."""
    async with sidecar.client.session.post(f"{sidecar.url}/contents", data=body, headers=FORM | headers) as response:
        answer = await response.read()
        contract.check("POST", "/contents", response.status, response.headers.items(), answer)
        assert response.status == 200, answer
        return [json.loads(line) for line in answer.splitlines()]


def _summary(**counts: Any) -> dict[str, Any]:
    return {"summary": {"added": 0, "replaced": 0, "unchanged": 0, "failed": 0, "complete": True} | counts}


async def test_each_is_added_as_by_a_call_of_its_own(sidecar: Sidecar) -> None:
    parts = [_part(b"text %d" % number, id=f"id/{number} ü", type="text", user="ann") for number in range(100)]
    parts.append(_part(PNG + b"pixels", id="picture", type="image"))
    *lines, summary = await _send(sidecar, _form(parts))
    assert summary == _summary(added=101)
    assert sorted(line["part"] for line in lines) == list(range(1, 102))
    for line in lines:
        assert line["content"]["status"] == "added"
        assert line["content"]["id"] == ("picture" if line["part"] == 101 else f"id/{line['part'] - 1} ü")
    assert await sidecar.found(b"text 7", k="1") == ["id/7 ü"]
    assert (await sidecar.call("GET", "/contents?id=id%2F7%20%C3%BC")).json["user"] == "ann"
    assert (await _send(sidecar, _form(parts)))[-1] == _summary(unchanged=101)


async def test_a_field_named_by_its_type_and_a_file_named_by_its_id_will_do(sidecar: Sidecar) -> None:
    form = aiohttp.FormData()
    form.add_field("text", b"a cat", filename="cat-1")
    form.add_field("image", PNG + b"pixels", filename="picture.png")
    async with sidecar.client.session.post(f"{sidecar.url}/contents", data=form) as response:
        lines = [json.loads(line) for line in (await response.read()).splitlines()]
    assert lines[-1] == _summary(added=2)
    assert await sidecar.found(b"a cat", k="1") == ["cat-1"]


async def test_metadata_comes_with_a_part_or_as_a_field_for_those_behind_it(sidecar: Sidecar) -> None:
    long = {"title": "ä" * 1500, "n": 215250709085334181}
    form = aiohttp.FormData()
    form.add_field("text", b"zero", filename="0")
    form.add_field("user", "ann")
    form.add_field("metadata", '{"n": 1}')
    form.add_field("text", b"one", filename="1")
    form.add_field("text", b"two", filename="2")
    form.add_field("metadata", "{}")
    form.add_field("text", b"three", filename="3")
    async with sidecar.client.session.post(f"{sidecar.url}/contents", data=form) as response:
        lines = [json.loads(line) for line in (await response.read()).splitlines()]
    assert lines[-1] == _summary(added=4)
    assert {line["part"]: line["content"]["id"] for line in lines[:-1]} == {1: "0", 4: "1", 5: "2", 7: "3"}
    head = _part(b"four", id="4", type="text", user="bob", metadata=json.dumps(long, ensure_ascii=False))
    assert len(head) > 8190  # percent-encoded, it is longer than a header of a request may be
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{{"n": 5}}\r\n'.encode()
    assert (await _send(sidecar, _form([field, head])))[-1] == _summary(added=1)
    stored = [(await sidecar.call("GET", f"/contents/{number}")).json for number in range(5)]
    assert [each["user"] for each in stored] == [None, "ann", "ann", "ann", "bob"]
    assert [each["metadata"] for each in stored] == [{}, {"n": 1}, {"n": 1}, {}, long]
    again = [_part(b"one", id="1", type="text", user="ann", metadata=each) for each in ('{"n": 1}',)]
    assert (await _send(sidecar, _form(again)))[-1] == _summary(unchanged=1)
    again = [_part(b"one", id="1", type="text", user="ann", metadata='{"n": 2}')]
    assert (await _send(sidecar, _form(again)))[-1] == _summary(replaced=1)
    assert (await sidecar.call("GET", "/contents/1")).json["metadata"] == {"n": 2}


@pytest.mark.parametrize("value", [b"no JSON", b'{"type": 1}', b'{"a": NaN}', b'{"a": "' + b"x" * 9000 + b'"}'])
async def test_a_field_that_is_wrong_ends_the_form_for_others_rely_on_it(sidecar: Sidecar, value: bytes) -> None:
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n'.encode() + value + b"\r\n"
    before, behind = _part(b"before", id="a", type="text"), _part(b"behind", id="b", type="text")
    *lines, summary = await _send(sidecar, _form([before, field, behind]))
    assert summary == _summary(added=1, failed=1, complete=False)
    (error,) = (line["error"]["code"] for line in lines if line["part"] == 2)
    assert error == ("invalid_body" if len(value) > 8192 else "invalid_metadata")
    assert (await sidecar.call("GET", "/contents/b")).status == 404
    assert (await sidecar.call("POST", "/contents", _form([field, behind]), headers=FORM)).error == (400, error)


async def test_a_bad_part_costs_only_itself(sidecar: Sidecar) -> None:
    bad = [
        (_part(b" ", id="blank", type="text"), "empty_text"),
        (_part(b"no picture", id="none", type="image"), "unsupported_image"),
        (_part(b"a" * 100_000, id="long", type="text"), "too_large"),
        (_part(b"text", type="text"), "invalid_id"),
        (_part(b"text", id="odd", type="sound"), "invalid_type"),
        (_part(b"text", id="odd", type="text", colour="red"), "unknown_parameter"),
        (_part(b"text", id="odd", type="text", metadata='{"user": "x"}'), "invalid_metadata"),
        (_part(b"text", id="..", type="text"), "invalid_id"),
        (_encoded(b"dGV4dA=="), "unsupported_encoding"),
    ]
    parts = [
        part
        for each, _ in bad
        for part in (each, _part(b"good after " + each[-20:], id=each.hex()[-40:-4], type="text"))
    ]
    *lines, summary = await _send(sidecar, _form(parts))
    assert summary == _summary(added=len(bad), failed=len(bad))
    errors = {line["part"]: line["error"]["code"] for line in lines if "error" in line}
    assert errors == {2 * number + 1: code for number, (_, code) in enumerate(bad)}


async def test_a_form_cut_off_keeps_what_came_before(sidecar: Sidecar) -> None:
    parts = [_part(b"text %d" % number, id=f"{number}", type="text") for number in range(5)]
    whole = _form(parts)
    *lines, summary = await _send(sidecar, whole[: len(b"".join(parts)) - 5])
    assert summary == _summary(added=4, failed=1, complete=False)
    assert [line["error"]["code"] for line in lines if "error" in line] == ["invalid_body"]


async def test_more_than_256_are_not_read(sidecar: Sidecar) -> None:
    parts = (_part(b"text %d" % number, id=f"{number}", type="text") for number in range(300))
    lines = await _send(sidecar, _form(parts))
    assert lines[-1] == _summary(added=256, failed=1, complete=False)


async def test_what_holds_no_content_is_an_error(sidecar: Sidecar) -> None:
    assert (await sidecar.call("POST", "/contents", _form([]), headers=FORM)).error == (400, "invalid_body")
    assert (await sidecar.call("POST", "/contents", b"text")).error == (415, "not_a_form")


async def test_an_id_that_shall_be_free_may_come_once(sidecar: Sidecar) -> None:
    parts = [_part(b"text %d" % number, id="a", type="text") for number in range(10)]
    lines = await _send(sidecar, _form(parts), **{"If-None-Match": "*"})
    assert lines[-1] == _summary(added=1, failed=9)
    assert {line["error"]["code"] for line in lines if "error" in line} == {"id_taken"}


async def test_a_line_comes_while_the_form_is_still_being_sent(sidecar: Sidecar) -> None:
    go_on = asyncio.Event()

    async def slowly() -> Any:
        for name in ("first", "second", "third"):  # where a part ends, only what arrives behind it tells
            yield _part(name.encode(), id=name, type="text")
            await asyncio.sleep(0.1)
        await go_on.wait()
        yield f"--{BOUNDARY}--\r\n".encode()

    async with sidecar.client.session.post(f"{sidecar.url}/contents", data=slowly(), headers=FORM) as response:
        first = json.loads(await response.content.readline())
        assert first["content"]["id"] == "first"
        assert await sidecar.found(b"first") == ["first"]  # durable and found
        go_on.set()
        rest = [json.loads(line) for line in (await response.content.read()).splitlines()]
    assert rest[-1] == _summary(added=3)


async def test_a_caller_who_leaves_stops_the_rest(settings: Settings, fake: FakeTorchServe) -> None:
    async with running(settings) as sidecar:
        fake.delay_s = 0.2
        before = len(fake.requests)
        body = _form(_part(b"text %d" % number, id=f"{number}", type="text") for number in range(256))
        call = asyncio.create_task(_send(sidecar, body))
        await asyncio.sleep(0.5)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await asyncio.sleep(0.5)
        asked = len(fake.requests)
        assert asked - before < 200
        await asyncio.sleep(0.6)
        assert len(fake.requests) - asked <= 1  # of the watch


async def test_every_part_counts_and_a_bound_key_adds_only_its_users(settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, access="keys", rate_limit="20/minute", model_rate_limit="1000/minute")
    key = add_key(settings.path_of_keys, "bound", Role.WRITER, "ann", None)
    async with running(settings) as sidecar:
        headers = {"Authorization": f"Bearer {key}"}
        parts = [_part(b"other", id="x", type="text", user="bob")]
        parts += [_part(b"text %d" % number, id=f"{number}", type="text") for number in range(30)]
        lines = await _send(sidecar, _form(parts), **headers)
        codes = [line["error"]["code"] for line in lines if "error" in line]
        assert codes.count("forbidden") == 1
        assert codes.count("too_many_requests") == 11
        assert lines[-1] == _summary(added=19, failed=12)


async def test_every_part_counts_as_the_models_work_and_what_streams_tells_what_is_left(settings: Settings) -> None:
    settings = replace(settings, access="keys", rate_limit="20/hour", model_rate_limit="9/hour")
    key = add_key(settings.path_of_keys, "writer", Role.WRITER, None, None)
    async with running(settings) as sidecar:
        parts = [_part(PNG + b"pixels", id="picture", type="image")]
        parts += [_part(b"text %d" % number, id=f"{number}", type="text") for number in range(3)]
        headers = FORM | {"Authorization": f"Bearer {key}", "X-Request-ID": "id-1"}
        url = f"{sidecar.url}/contents"
        async with sidecar.client.session.post(url, data=_form(parts), headers=headers) as response:
            lines = [json.loads(line) for line in (await response.read()).splitlines()]
        assert lines[-1] == _summary(added=2, failed=2)
        assert {line["error"]["code"] for line in lines if "error" in line} == {"too_many_requests"}
        assert response.headers["RateLimit-Policy"] == '"requests";q=20;w=3600, "model";q=9;w=3600'
        # The head goes out with the first line, when that part at least has been counted.
        assert response.headers["RateLimit"].startswith('"requests";r=1')
        assert response.headers["X-Request-ID"] == "id-1"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Server"] == "clip-archive"
        after = await sidecar.call("GET", "/contents", headers={"Authorization": f"Bearer {key}"})
        assert after.headers["RateLimit"].startswith('"requests";r=15;t=')
        assert '"model";r=0;t=' in after.headers["RateLimit"]


async def test_the_contract_has_every_kind_of_line_and_no_other() -> None:
    (media,) = contract.CONTRACT["paths"]["/contents"]["post"]["responses"]["200"]["content"]
    assert media == "application/x-ndjson"
    told = {"part": 1, "id": None, "error": {"code": "x", "message": "y", "request_id": "z"}}
    good = json.dumps(told).encode() + b"\n"
    headers = {"Content-Type": media, "X-Request-ID": "z"}
    contract.check("POST", "/contents", 200, headers, good)
    for bad in (good[:-1], good + b"{}\n", good.replace(b"part", b"prat"), good.replace(b'"y"', b"1")):
        with pytest.raises(AssertionError):
            contract.check("POST", "/contents", 200, headers, bad)
