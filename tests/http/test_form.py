"""Forms: which part is the content, which are parameters."""

from __future__ import annotations

import pytest

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import Sidecar
from ..support.wire import FORM, Answer, field, file, form, request, send

PICTURE = PNG + b"\r\n--pixels"
TEXT = "Content-Type: text/plain"


async def _add(sidecar: Sidecar, query: str, *parts: tuple[str, bytes]) -> Answer:
    return await send(sidecar, request(f"/add_content{query}", form(*parts), FORM))


@pytest.mark.parametrize(
    "parts",
    [
        (file(PICTURE),),
        (field("user", "ada"), file(PICTURE)),
        (file(PICTURE), field("user", "ada")),
        (field("comment", "no parameter"), file(PICTURE), field("submit", "Send")),
        (file(PICTURE, "Gr\udcfc\udcdfe.jpg"),),  # Latin-1
        (file(PICTURE, "a.jpg", "Content-Transfer-Encoding: binary", name="anything"),),
        (('Content-Disposition: form-data; name="file"', PICTURE),),
        (field("user", "ada"), ('Content-Disposition: form-data; name="picture"', PICTURE)),
    ],
)
async def test_the_file_is_the_content(sidecar: Sidecar, fake: FakeTorchServe, parts: list[tuple[str, bytes]]) -> None:
    assert (await _add(sidecar, "?id=a&type=image", *parts)).status == 201
    assert fake.requests[-1].data == PICTURE
    user = "ada" if any('"user"' in head for head, _ in parts) else None
    assert (await sidecar.call("GET", "/contents/a")).json["user"] == user


async def test_parameters_may_come_as_fields(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    words = b"the ship in the harbour"
    fields = [field("id", "café/1"), field("type", "text"), field("user", "ada"), field("near", "0.9")]
    for parts in ([*fields, file(words, "note.txt", TEXT)], [file(words + b"!", "note.txt", TEXT), *fields]):
        answer = await _add(sidecar, "", *parts)
        assert answer.status in (200, 201)
        assert (answer.json["id"], answer.json["near_duplicates"]) == ("café/1", [])
        assert fake.requests[-1].data.startswith(words)
    parts = [field("k", "1"), field("type", "text"), file(words, "note.txt", TEXT)]
    answer = await send(sidecar, request("/retrieve?target=text", form(*parts), FORM))
    assert [hit["id"] for hit in answer.json["contents"]] == ["café/1"]


@pytest.mark.parametrize(
    ("query", "parts", "error"),
    [
        ("?id=a&type=text", [file(b"one"), file(b"two")], (400, "invalid_body")),
        ("?id=a&type=text", [field("user", "ada")], (400, "invalid_body")),
        ("?id=a&type=text", [field("one", "a cat"), field("two", "a dog")], (400, "invalid_body")),
        ("?id=a&type=text", [], (400, "invalid_body")),
        ("?id=a&type=text", [field("id", "a"), file(b"one")], (400, "repeated_parameter")),
        ("?id=a&type=text", [field("user", "a"), field("user", "a"), file(b"one")], (400, "repeated_parameter")),
        (
            "?id=a&type=text",
            [("Content-Disposition: form-data; name=user", b"caf\xe9"), file(b"a")],
            (400, "invalid_user"),
        ),
        ("?id=a&type=text", [field("user", "u" * 5000), file(b"a")], (400, "invalid_body")),
        ("?id=a&type=text", [field("x", "")] * 70, (400, "invalid_body")),
        ("?id=a&nonsense=1", [file(b"one"), field("type", "text")], (400, "unknown_parameter")),
        ("?id=a", [file(b"one")], (400, "invalid_type")),
        ("?type=text", [file(b"one")], (400, "invalid_id")),
        ("?id=a", [file(b"x" * 65537), field("type", "text")], (413, "too_large")),  # said after the content
        (
            "?id=a&type=text",
            [file(b"YSBjYXQ=", "a", "Content-Transfer-Encoding: base64")],
            (415, "unsupported_encoding"),
        ),
        ("?id=a&type=image", [file(b"", "", "Content-Type: application/octet-stream")], (400, "empty_image")),
    ],
)
async def test_a_form_that_leaves_something_open(
    sidecar: Sidecar, query: str, parts: list[tuple[str, bytes]], error: tuple[int, str]
) -> None:
    assert (await _add(sidecar, query, *parts)).error == error
    assert (await sidecar.call("GET", "/contents")).json["contents"] == []


async def test_what_a_form_passes_over_is_bounded_too(sidecar: Sidecar) -> None:
    body = form(file(b"a cat"), ("Content-Disposition: form-data; name=rest", b"x" * 300_000))
    head = request("/add_content?id=a&type=text", None, FORM, "Transfer-Encoding: chunked")
    answer = await send(sidecar, head, b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
    assert answer.error == (413, "too_large")


async def test_what_comes_before_the_first_boundary_is_no_part(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    body = b"This is a multi-part message.\r\n" + form(file(b"a cat"))
    assert (await send(sidecar, request("/add_content?id=a&type=text", body, FORM))).status == 201
    assert fake.requests[-1].data == b"a cat"


async def test_existing_clients_may_send_fields_that_say_something_else(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    path = "/mv_retrieval/v0.1/add_content?id=a&type=text&user=ann"
    parts = [field("user", "bob"), file(b"a cat", "note.txt", TEXT)]
    assert (await send(sidecar, request(path, form(*parts), FORM))).status == 201
    assert fake.requests[-1].data == b"a cat"
    assert (await sidecar.call("GET", "/contents/a")).json["user"] == "ann"
