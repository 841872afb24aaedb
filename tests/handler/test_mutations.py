"""The short form of `python -m bench.mutations`: broken files and texts get a refusal, in bounded time and memory."""

from __future__ import annotations

from bench import mutations


def test_broken_files_are_read_or_refused() -> None:
    assert mutations.pictures(25) == []


def test_odd_texts_are_read_or_refused() -> None:
    assert mutations.texts(100) == []
