"""An add that asks for a free id gets it or changes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter

from ..support.sidecar import Sidecar
from ..support.wire import FORM, field, file, form, request, send

FREE = {"If-None-Match": "*"}


async def _add(sidecar: Sidecar, content_id: str, data: bytes, headers: dict[str, str]) -> tuple[int, str]:
    params = {"id": content_id, "type": "text"}
    reply = await sidecar.call("POST", "/add_content", data, params=params, headers=headers)
    return (reply.status, reply.json["status"]) if reply.status < 300 else reply.error


async def test_a_taken_id_keeps_what_it_holds(sidecar: Sidecar) -> None:
    assert await _add(sidecar, "a", b"one", FREE) == (201, "added")
    assert await _add(sidecar, "a", b"two", FREE) == (412, "id_taken")
    assert await _add(sidecar, "a", b"one", FREE) == (412, "id_taken")  # the same bytes, too
    assert await sidecar.found(b"one") == ["a"]
    assert (await sidecar.call("DELETE", "/contents/a")).status == 204
    assert await _add(sidecar, "a", b"two", FREE) == (201, "added")


async def test_of_many_at_once_one_gets_it(sidecar: Sidecar) -> None:
    answers = await asyncio.gather(*(_add(sidecar, "a", b"text %d" % number, FREE) for number in range(30)))
    assert Counter(answers) == {(201, "added"): 1, (412, "id_taken"): 29}


async def test_an_etag_is_no_such_wish(sidecar: Sidecar) -> None:
    assert await _add(sidecar, "a", b"one", {"If-None-Match": '"abc"'}) == (400, "invalid_if_none_match")


async def test_a_form_asks_so_too(sidecar: Sidecar) -> None:
    parts = [field("id", "a"), field("type", "text"), file(b"one", "one.txt")]
    asked = request("/add_content", form(*parts), FORM, "If-None-Match: *")
    assert (await send(sidecar, asked)).status == 201
    assert (await send(sidecar, asked)).error == (412, "id_taken")
    assert (await send(sidecar, request("/add_content", form(*parts), FORM))).json["status"] == "unchanged"
