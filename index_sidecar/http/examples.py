"""An example of each call, as a newcomer would make them one after the other on an empty archive: so a test does."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from .. import __version__
from ..archive.content import IndexState
from .search_page import FILES
from .shapes import (
    AddAnswer,
    Because,
    CallerAnswer,
    Columns,
    ColumnsOfEach,
    ContentAnswer,
    Counts,
    EraseUserAnswer,
    FoundContent,
    HealthAnswer,
    IndexAnswer,
    PageAnswer,
    RecommendAnswer,
    RecommendByHistoryAnswer,
    RecommendedContent,
    RetrieveAnswer,
    RetrieveEachAnswer,
    SimilarAnswer,
    StatusAnswer,
)

_CAT = "a cat sits on a roof"
_DOG = "a dog sleeps in the sun"


@dataclass(frozen=True)
class Example:
    """Parameters by name, a text or JSON as the body, and the answer: as its type has it, or as a text."""

    parameters: dict[str, str | int | float]
    answer: Struct | str | None
    body: str | None = None


_STORED = ContentAnswer(
    id="cat-1",
    type="text",
    user="ada",
    sha256="1530ddc47449d08ccf988e0302538e185579e58ec68f01a80c063869d5b1edc5",
    created=1764000000.0,
    truncated=False,
)
_PATCHED = replace(_STORED, metadata={"title": "Cat"})
_SIMILAR = SimilarAnswer([FoundContent("dog-1", "text", "grace", 0.7712, None)], 0.0021)
_DOGS, _NONE = Columns(["dog-1"], [0.7712]), Columns([], [])

EXAMPLES = {
    "add_content": Example(
        {"id": "cat-1", "type": "text", "user": "ada"},
        AddAnswer("cat-1", "text", "added", [], False, "text added", 0.0712),
        _CAT,
    ),
    "mv_add_content": Example(
        {"id": "dog-1", "type": "text", "user": "grace"},
        AddAnswer("dog-1", "text", "added", [], False, "text added", 0.0655),
        _DOG,
    ),
    "retrieve": Example(
        {"type": "text", "k": 1},
        RetrieveAnswer([FoundContent("cat-1", "text", "ada", 1.0, None)], False, 0.0098),
        _CAT,
    ),
    "search": Example(
        {},
        RetrieveAnswer([FoundContent("dog-1", "text", "grace", 0.7712, None)], False, 0.0102),
        f'{{"query": [{{"text": "{_CAT}"}}, {{"id": "cat-1", "weight": -0.5}}], "k": 1}}',
    ),
    "retrieve_contents": Example(
        {"type": "text", "k": 1, "user": "ada"}, RetrieveEachAnswer(_DOGS, _NONE, False, 0.0095), _CAT
    ),
    "recommend": Example(
        {"user": "ada", "k": 1},
        RecommendAnswer(
            [RecommendedContent("dog-1", "text", "grace", 0.7712, None, because=Because("cat-1", "item"))], None, 0.0113
        ),
    ),
    "recommend_contents": Example(
        {"user": "ada", "k": 1},
        RecommendByHistoryAnswer(ColumnsOfEach(_DOGS, _NONE), ColumnsOfEach(_NONE, _NONE), 0.0104),
    ),
    "get_contents": Example({"user": "ada", "limit": 10}, PageAnswer([_STORED], None)),
    "get_content": Example({"id": "cat-1"}, replace(_STORED, original=True)),
    "get_preview_by_parameter": Example({"id": "cat-1"}, _CAT),
    "get_preview": Example({"id": "cat-1"}, _CAT),
    "get_original_by_parameter": Example({"id": "cat-1"}, _CAT),
    "get_original": Example({"id": "cat-1"}, _CAT),
    "get_similar_by_parameter": Example({"id": "cat-1"}, _SIMILAR),
    "get_similar": Example({"id": "cat-1"}, _SIMILAR),
    "export": Example({"user": "nobody"}, '{"summary":{"contents":0}}\n'),
    "index": Example({}, IndexAnswer(IndexState("exact", 2, 4096), IndexState("exact", 0, 0))),
    "health": Example(
        {},
        HealthAnswer(
            "ok",
            __version__,
            True,
            "available",
            "available",
            "clip-vit-b-32:untrained:0123456789abcdef:p1",
            "untrained",
            Counts(2, 0),
            0,
        ),
    ),
    "livez": Example({}, StatusAnswer("alive")),
    "ready": Example({}, StatusAnswer("ready")),
    "caller": Example({}, CallerAnswer("admin", None)),
    "search_page_file": Example({"file": "icon.svg"}, FILES["icon.svg"]),
    "patch_content_by_parameter": Example({"id": "cat-1"}, _PATCHED, '{"title": "Cat"}'),
    "patch_content": Example({"id": "cat-1"}, _STORED, '{"title": null}'),
    "delete_content_by_parameter": Example({"id": "cat-1"}, None),
    "delete_content": Example({"id": "dog-1"}, None),
    "delete_user_by_parameter": Example({"user": "ada"}, EraseUserAnswer(0)),
    "delete_user": Example({"user": "grace"}, EraseUserAnswer(0)),
}
