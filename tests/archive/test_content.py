"""What callers may say: ids, users, types, targets, k."""

from __future__ import annotations

import hashlib

import pytest

from index_sidecar.archive.content import Hit, check_id, check_k, check_target, check_type, digest, ranked
from index_sidecar.archive.errors import ContentError, InvalidInput


@pytest.mark.parametrize("value", ["a", "a" * 256, "漢" * 256, "a b", "a/b", "a?b#c%20", "🙂", "...", "-", "0"])
def test_an_id_is_taken_as_it_is(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize(
    "value",
    [None, "", "a" * 257, "a\nb", "a\x00", "\x7f", "tab\t", "\u2028", "\u202e", "\ud800", "\u3000", "\x85", ".", ".."],
)
def test_an_id_that_no_url_or_log_line_can_carry_is_refused(value: str | None) -> None:
    with pytest.raises(InvalidInput, match=r"^id ") as caught:
        check_id(value)
    assert caught.value.code == "invalid_id"


def test_a_user_is_checked_like_an_id_but_named_in_the_error() -> None:
    with pytest.raises(InvalidInput, match=r"^user ") as caught:
        check_id("", "user")
    assert caught.value.code == "invalid_user"


@pytest.mark.parametrize(("value", "k"), [(None, 10), ("1", 1), ("007", 7), ("1000", 1000)])
def test_k(value: str | None, k: int) -> None:
    assert check_k(value) == k


@pytest.mark.parametrize("value", ["0", "1001", "-1", "abc", "", "1.0", "٣", "²", "1_0", " 1", "9" * 5000])
def test_k_out_of_bounds(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_k(value)
    assert (caught.value.code, str(caught.value)) == ("invalid_k", "k must be a whole number from 1 to 1000")


def test_types_and_targets() -> None:
    assert [check_type(each) for each in ("text", "image")] == ["text", "image"]
    assert [check_target(each) for each in (None, "", "any", "text", "image", "each")] == [
        *("any", "any", "any", "text", "image", "each")
    ]
    for wrong in (None, "", "Text", "video"):
        with pytest.raises(InvalidInput) as caught:
            check_type(wrong)
        assert caught.value.code == "invalid_type"
    with pytest.raises(InvalidInput) as caught:
        check_target("all")
    assert caught.value.code == "invalid_target"


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
