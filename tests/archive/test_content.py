"""What ids may be, what comes first in a ranking."""

from __future__ import annotations

import hashlib

import pytest

from index_sidecar.archive.content import Hit, Original, check_id, digest, ranked
from index_sidecar.archive.errors import ContentError, InvalidInput

FILE_NAMES = ["9.41.00\u202fPM.png", "写真\u30001.jpg", "cafe\u0301", "\U0001f469\u200d\U0001f467", "x "]
CONTROLS = ["a\nb", "a\x00", "\x7f", "tab\t", "\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\ud800"]


@pytest.mark.parametrize(
    "value", [*FILE_NAMES, "a", "a" * 256, "漢" * 256, "a b", "a/b", "a?b#c%20", "🙂", "...", "-", "0"]
)
def test_an_id_is_taken_as_it_is(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize("value", [*CONTROLS, "", "a" * 257, ".", ".."])
def test_an_id_that_no_url_or_log_line_can_carry_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match=r"^id ") as caught:
        check_id(value)
    assert caught.value.code == "invalid_id"


def test_a_user_is_checked_like_an_id_but_named_in_the_error() -> None:
    with pytest.raises(InvalidInput, match=r"^user ") as caught:
        check_id("", "user")
    assert caught.value.code == "invalid_user"


def test_the_best_come_first_and_equal_scores_in_the_order_of_their_ids() -> None:
    hits = [Hit(content_id, "text", None, score) for content_id, score in (("b", 0.5), ("c", 0.9), ("a", 0.5))]
    assert [hit.id for hit in ranked(hits, 5)] == ["c", "a", "b"]
    assert [hit.id for hit in ranked(hits, 2)] == ["c", "a"]


def test_the_digest_is_sha256() -> None:
    assert digest(b"bytes") == hashlib.sha256(b"bytes").digest()


def test_an_error_keeps_its_class_code_unless_it_brings_its_own() -> None:
    assert (InvalidInput("m").code, InvalidInput("m", "own").code, ContentError("m").code) == (
        *("invalid_input", "own", "error"),
    )


def test_an_original_is_released_with_its_bytes() -> None:
    released: list[bool] = []
    original = Original(b"bytes", released=lambda: released.append(True))
    assert (original.data, original.sha256) == (b"bytes", hashlib.sha256(b"bytes").digest())
    original.release()
    assert (original.data, released) == (b"", [True])
    assert original.sha256 == hashlib.sha256(b"bytes").digest()
