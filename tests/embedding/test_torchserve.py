"""The embedder against a server that fails in every way TorchServe can."""

from __future__ import annotations

import pytest

from index_sidecar.archive.content import ContentType
from index_sidecar.archive.errors import (
    ContentError,
    EmbedderUnavailable,
    InvalidInput,
    Overloaded,
    TooLarge,
    Unsupported,
)
from index_sidecar.archive.request_id import request_id
from index_sidecar.embedding.torchserve import TorchServeEmbedder
from index_sidecar.settings import Settings

from ..support.fake_torchserve import FINGERPRINT, PNG, SECRET, Failure, FakeTorchServe, Request
from ..support.fake_vectors import vector_of
from ..support.sidecar import running


@pytest.mark.parametrize(
    ("data", "content_type", "truncated"),
    [
        (b"a photo of a cat", "text", False),
        ("漢字 🙂".encode(), "text", False),
        (b"word " * 78, "text", True),
        (PNG + b"pixels", "image", False),
    ],
)
async def test_a_content_becomes_its_vector(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, data: bytes, content_type: ContentType, truncated: bool
) -> None:
    request_id.set("request-1")
    embedding = await embedder.embed(data, content_type)
    assert embedding.vector.tobytes() == vector_of(data, content_type).tobytes()
    assert (embedding.fingerprint, embedding.truncated) == (FINGERPRINT, truncated)
    assert fake.requests == [Request(content_type, data, "request-1")]
    assert embedder.answers() is True


@pytest.mark.parametrize(
    ("data", "content_type", "kind", "code"),
    [
        (b" \n", "text", InvalidInput, "empty_text"),
        (b"\xff\xfe", "text", InvalidInput, "invalid_utf8"),
        (b"", "image", InvalidInput, "empty_image"),
        (b"%PDF-1.7", "image", Unsupported, "unsupported_image"),
        (PNG + b"broken", "image", InvalidInput, "unreadable_image"),
        (PNG + b"huge", "image", TooLarge, "too_many_pixels"),
    ],
)
async def test_a_refusal_of_the_handler_reaches_the_caller_as_it_is(
    embedder: TorchServeEmbedder, data: bytes, content_type: ContentType, kind: type[ContentError], code: str
) -> None:
    with pytest.raises(ContentError) as caught:
        await embedder.embed(data, content_type)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert str(caught.value).startswith(("the ", "not an image"))
    assert embedder.answers() is True


@pytest.mark.parametrize(
    ("failure", "kind", "answers"),
    [
        ("queue_full", Overloaded, True),
        ("internal_500", EmbedderUnavailable, False),
        ("internal_503", EmbedderUnavailable, False),
        ("odd_400", EmbedderUnavailable, False),
        ("disconnect", EmbedderUnavailable, False),
        ("hang", EmbedderUnavailable, False),
        ("short", EmbedderUnavailable, False),
        ("not_unit", EmbedderUnavailable, False),
        ("nan", EmbedderUnavailable, False),
        ("no_model", EmbedderUnavailable, False),
        ("endless", EmbedderUnavailable, False),
    ],
)
async def test_a_failure_is_told_in_our_own_words_and_ends_with_its_cause(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, failure: Failure, kind: type[ContentError], answers: bool
) -> None:
    fake.failure = failure
    with pytest.raises(ContentError) as caught:
        await embedder.embed(b"text", "text")
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value)
    assert embedder.answers() is answers
    fake.failure = None
    assert (await embedder.embed(b"text", "text")).fingerprint == FINGERPRINT


async def test_a_content_too_large_for_torchserve(embedder: TorchServeEmbedder, fake: FakeTorchServe) -> None:
    fake.max_request_bytes = 10
    with pytest.raises(TooLarge) as caught:
        await embedder.embed(b"x" * 11, "text")
    assert SECRET not in str(caught.value)


async def test_what_torchserve_says_goes_to_the_log(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, caplog: pytest.LogCaptureFixture
) -> None:
    fake.failure = "internal_500"
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(b"text", "text")
    assert SECRET in caplog.text
    assert fake.token not in caplog.text


@pytest.mark.parametrize("fingerprint", ["", "mod\xe8le", "a\tb", "x" * 257])
async def test_what_is_no_line_of_ascii_is_no_fingerprint(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, fingerprint: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fingerprint = fingerprint
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(b"text", "text")
    assert all(record.getMessage().isascii() for record in caplog.records)


@pytest.mark.parametrize("fingerprint", ["x", ":", 'a"b', "one:two"])
async def test_any_fingerprint_is_told_in_health(settings: Settings, fake: FakeTorchServe, fingerprint: str) -> None:
    fake.fingerprint = fingerprint
    async with running(settings) as sidecar:
        assert (await sidecar.add("a", b"one")).status == 201
        health = await sidecar.call("GET", "/health")
        assert (health.status, health.json["model"]) == (200, fingerprint)
        assert health.json["weights"] == (fingerprint.split(":")[1] if ":" in fingerprint else None)


async def test_the_key_file_of_another_torchserve_is_named_in_the_log_but_not_what_is_in_it(
    embedder: TorchServeEmbedder, fake: FakeTorchServe, caplog: pytest.LogCaptureFixture
) -> None:
    fake.key_file.write_text('{"inference": {"key": "another-token"}}')
    with pytest.raises(EmbedderUnavailable) as caught:
        await embedder.embed(b"text", "text")
    assert "oken" not in str(caught.value)
    assert str(fake.key_file) in caplog.text
    assert "another-token" not in caplog.text
