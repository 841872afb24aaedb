"""Metadata and filters over HTTP."""

from __future__ import annotations

import json

from ..support.sidecar import Sidecar

CAT = '{"must": [{"key": "tag", "match": {"value": "cat"}}]}'


async def _ask(sidecar: Sidecar, method: str, path: str, body: bytes = b"", **parameters: str) -> tuple[int, object]:
    url = sidecar.client.make_url(path)
    async with sidecar.client.session.request(method, url, params=parameters, data=body) as response:
        return response.status, await response.json()


async def test_metadata_is_given_changed_shown_and_filtered_by(sidecar: Sidecar) -> None:
    for number in range(6):
        metadata = json.dumps({"tag": "cat" if number % 2 else "dog", "n": 215250709085334181 + number})
        status, _ = await _ask(
            sidecar, "POST", "/add_content", b"%d" % number, id=f"c{number}", type="text", metadata=metadata
        )
        assert status == 201
    status, answer = await _ask(sidecar, "POST", "/retrieve", b"1", type="text", filter=CAT, fields="metadata")
    assert isinstance(answer, dict)
    assert {each["id"] for each in answer["contents"]} == {"c1", "c3", "c5"}
    assert answer["contents"][0]["metadata"] == {"tag": "cat", "n": 215250709085334182}
    status, answer = await _ask(sidecar, "PATCH", "/contents/c1", b'{"tag": null, "title": "one"}')
    assert isinstance(answer, dict)
    assert (status, answer["metadata"]) == (200, {"n": 215250709085334182, "title": "one"})
    for path in ("/contents", "/contents/c3/similar"):
        _, answer = await _ask(sidecar, "GET", path, filter=CAT)
        assert isinstance(answer, dict)
        assert {each["id"] for each in answer["contents"]} == {"c3", "c5"} - ({"c3"} if "similar" in path else set())
    again = {"id": "c3", "type": "text"}
    for metadata, status_word in (("", "unchanged"), ('{"tag": "dog"}', "replaced"), ('{"tag": "dog"}', "unchanged")):
        given = {**again, "metadata": metadata} if metadata else again
        _, answer = await _ask(sidecar, "POST", "/add_content", b"3", **given)
        assert isinstance(answer, dict)
        assert answer["status"] == status_word


async def test_what_is_wrong_is_a_400_that_says_where(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"one")
    wrong = '{"must": [{"key": "n", "range": {"gt": true}}]}'
    status, answer = await _ask(sidecar, "GET", "/contents", filter=wrong)
    assert status == 400
    assert "$.must[0].range.gt" in str(answer)
    for body in (b"", b"[]", b"\xff", b'{"a": NaN}', b'{"a": {"b": 1}}', b'{"a": "' + b"x" * 9000 + b'"}'):
        status, answer = await _ask(sidecar, "PATCH", "/contents/a", body)
        assert status == 400
        assert "invalid_metadata" in str(answer)
    assert (await _ask(sidecar, "PATCH", "/contents/nobody", b"{}"))[0] == 404
