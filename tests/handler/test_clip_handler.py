"""The handler inside a real TorchServe: the wire contract, and bad inputs that harm nobody else."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from ..support.real_servers import Reply, TorchServe, http
from ..support.samples import PHOTOGRAPHS, SENTENCES

CAT = next(path for path in PHOTOGRAPHS if path.name == "chelsea.png").read_bytes()


def _code(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)["code"]


def _huge_png() -> bytes:
    """A valid PNG of 20,000 x 20,000 pixels that takes 50 KB to send."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


def test_a_vector_is_2048_bytes_of_unit_length(torchserve: TorchServe) -> None:
    reply = torchserve.predict(b"a photo of a cat", "text")
    vector = np.frombuffer(reply.body, "<f4")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
    assert vector.shape == (512,)
    assert abs(float(vector @ vector) - 1) < 1e-5
    assert reply.headers["x-clip-model"] == "clip-vit-b-32:untrained:e400a4e3cf905fa5:p3"
    assert "x-clip-truncated" not in reply.headers


def test_json_where_it_is_asked_for(torchserve: TorchServe) -> None:
    reply = torchserve.predict(CAT, "image", accept="application/json")
    assert reply.headers["content-type"] == "application/json"
    raw = np.frombuffer(torchserve.predict(CAT, "image").body, "<f4")
    assert np.allclose(json.loads(reply.body), raw, atol=1e-6)


def test_a_cut_text_says_so(torchserve: TorchServe) -> None:
    reply = torchserve.predict(b"word " * 76, "text")
    assert (reply.status, reply.headers["x-clip-truncated"]) == (200, "true")
    assert "x-clip-truncated" not in torchserve.predict(b"word " * 75, "text").headers


def test_the_type_comes_from_header_parameter_or_the_bytes(torchserve: TorchServe) -> None:
    image, text = torchserve.predict(CAT, "image").body, torchserve.predict(b"a cat", "text").body
    invoke = "/models/clip/invoke?type="
    assert np.allclose(np.frombuffer(torchserve.predict(CAT, None, path=f"{invoke}image").body, "<f4"), as_row(image))
    assert np.allclose(
        np.frombuffer(torchserve.predict(b"a cat", None, path=f"{invoke}text").body, "<f4"), as_row(text)
    )
    # TorchServe drops the query of /predictions, so without the header only the bytes can tell.
    assert np.allclose(
        np.frombuffer(torchserve.predict(CAT, None, path="/predictions/clip").body, "<f4"), as_row(image)
    )
    assert np.allclose(
        np.frombuffer(torchserve.predict(b"a cat", None, path="/predictions/clip").body, "<f4"), as_row(text)
    )


def as_row(body: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.frombuffer(body, "<f4")


@pytest.mark.parametrize(
    ("data", "content_type", "expected"),
    [
        (b"", "text", (400, "empty_text")),
        (b" \n\t ", "text", (400, "empty_text")),
        (b"&nbsp;", "text", (400, "empty_text")),
        (b"\xff\xfe\xfa", "text", (400, "invalid_utf8")),
        (b"", "image", (400, "empty_image")),
        (b"this is no image", "image", (415, "unsupported_image")),
        (b"%PDF-1.7 neither is this", "image", (415, "unsupported_image")),
        (CAT[: len(CAT) // 2], "image", (400, "unreadable_image")),
        (_huge_png(), "image", (413, "too_many_pixels")),
        (b"a cat", "video", (400, "invalid_type")),
    ],
)
def test_bad_input_gets_a_clear_4xx(
    torchserve: TorchServe, data: bytes, content_type: str, expected: tuple[int, str]
) -> None:
    reply = torchserve.predict(data, content_type)
    assert _code(reply) == expected
    assert reply.headers["x-clip-model"]  # how a caller tells our handler's answer from TorchServe's own


def test_five_broken_among_32_harm_nobody(torchserve: TorchServe) -> None:
    good = [(sentence.encode(), "text") for sentence in SENTENCES[:17]]
    good += [(path.read_bytes(), "image") for path in PHOTOGRAPHS[:10]]
    broken = [(b"", "text"), (b"\xff", "text"), (CAT[:1000], "image"), (b"no image", "image"), (b"x", "sound")]
    alone = [torchserve.predict(data, content_type) for data, content_type in good]
    requests = [*good[:5], *broken[:2], *good[5:20], *broken[2:4], *good[20:], broken[4]]
    with ThreadPoolExecutor(32) as threads:
        replies = list(threads.map(lambda request: torchserve.predict(*request), requests))

    answers = dict(zip(requests, replies, strict=True))
    for request, expected in zip(good, alone, strict=True):
        assert answers[request].status == 200
        assert as_row(answers[request].body) @ as_row(expected.body) >= 0.99999
    assert sorted(_code(answers[request]) for request in broken) == [
        (400, "empty_text"),
        (400, "invalid_type"),
        (400, "invalid_utf8"),
        (400, "unreadable_image"),
        (415, "unsupported_image"),
    ]


def test_no_token_no_vector(torchserve: TorchServe) -> None:
    reply = http("POST", f"{torchserve.url}/predictions/clip?type=text", b"a cat", {"Authorization": "Bearer wrong"})
    assert reply.status == 400
    assert "x-clip-model" not in reply.headers
