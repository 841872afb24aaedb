"""The calls that ask for what is similar, or new: by a content, by several parts, by a stored content, for a user.

What is not said is as the archive has it by default. Scores are cosines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from .answers import (
    ContentType,
    RecommendAnswer,
    RecommendEachAnswer,
    RetrieveAnswer,
    RetrieveEachAnswer,
    SimilarAnswer,
    SimilarEachAnswer,
    Target,
)
from .contents import Data, Part, data_of, type_of
from .form import named, write_form
from .wire import Call, json_of, queried

T = TypeVar("T")
Rank = Literal["score", "relevance"]
Order = Literal["best", "newest"]
Filter = Mapping[str, Any]
_BYTES = {"Content-Type": "application/octet-stream"}
_JSON = {"Content-Type": "application/json"}


def retrieve(
    content: Data,
    *,
    type: ContentType | None = None,
    k: int | None = None,
    user: str | None = None,
    min_score: float | None = None,
    min_relevance: float | None = None,
    rank: Rank | None = None,
    target: Target | None = None,
    offset: int | None = None,
    fold: bool | None = None,
    order: Order | None = None,
    filter: Filter | None = None,
    fields: Literal["metadata"] | None = None,
) -> Call[RetrieveAnswer]:
    """The k contents most similar to a text or a picture, best first; `user`: whose own are left out."""
    said = {key: value for key, value in locals().items() if key not in ("content", "type")}
    query = queried(type=type_of(content, type), **said)
    return Call("POST", "/retrieve", json_of(RetrieveAnswer), query, data_of(content), _BYTES)


def retrieve_each(
    content: Data,
    *,
    type: ContentType | None = None,
    k: int | None = None,
    user: str | None = None,
    min_score: float | None = None,
    min_relevance: float | None = None,
    rank: Rank | None = None,
    offset: int | None = None,
    fold: bool | None = None,
    order: Order | None = None,
    filter: Filter | None = None,
    fields: Literal["metadata"] | None = None,
) -> Call[RetrieveEachAnswer]:
    """As `retrieve`, the k best of each type, in columns."""
    said = {key: value for key, value in locals().items() if key not in ("content", "type")}
    query = queried(type=type_of(content, type), target="each", **said)
    return Call("POST", "/retrieve", json_of(RetrieveEachAnswer), query, data_of(content), _BYTES)


def search(
    query: Sequence[Part],
    *,
    k: int | None = None,
    offset: int | None = None,
    target: Target | None = None,
    fold: bool | None = None,
    rank: Rank | None = None,
    order: Order | None = None,
    min_score: float | None = None,
    min_relevance: float | None = None,
    without_user: str | None = None,
    filter: Filter | None = None,
    fields: Literal["metadata"] | None = None,
) -> Call[RetrieveAnswer]:
    """What is most similar to several parts taken together: texts, pictures and stored contents, each with a weight."""
    return _search(RetrieveAnswer, dict(**locals()))


def search_each(
    query: Sequence[Part],
    *,
    k: int | None = None,
    offset: int | None = None,
    fold: bool | None = None,
    rank: Rank | None = None,
    order: Order | None = None,
    min_score: float | None = None,
    min_relevance: float | None = None,
    without_user: str | None = None,
    filter: Filter | None = None,
    fields: Literal["metadata"] | None = None,
) -> Call[RetrieveEachAnswer]:
    """As `search`, the k best of each type, in columns."""
    return _search(RetrieveEachAnswer, {"target": "each", **locals()})


def _search(answer: type[T], said: dict[str, Any]) -> Call[T]:
    parts, pictures = [], []
    for number, part in enumerate(said["query"]):
        if sum(each is not None for each in (part.text, part.id, part.picture)) != 1:
            raise ValueError("a part has exactly one of text, id and picture")
        if part.picture is not None:
            name = f"picture-{number}"
            pictures.append(({"Content-Disposition": named(name, name)}, data_of(part.picture)))
            parts.append({"part": name, "weight": part.weight})
        else:
            told = {"text": part.text} if part.text is not None else {"id": part.id}
            parts.append({**told, "weight": part.weight})
    body = msgspec.json.encode({key: value for key, value in {**said, "query": parts}.items() if value is not None})
    headers = _JSON
    if pictures:
        written = ({"Content-Disposition": named("search"), **_JSON}, body)
        media, body = write_form([written, *pictures])
        headers = {"Content-Type": media}
    return Call("POST", "/search", json_of(answer), {}, body, headers)


def recommend(
    user: str | None = None,
    *,
    k: int | None = None,
    diversity: float | None = None,
    seed: int | None = None,
    target: Target | None = None,
    filter: Filter | None = None,
    fields: Literal["metadata"] | None = None,
) -> Call[RecommendAnswer]:
    """New contents for a user, each with its reason; a key that is bound to a user need not name one."""
    return Call("POST", "/recommend", json_of(RecommendAnswer), queried(**locals()))


def recommend_each(
    user: str | None = None,
    *,
    k: int | None = None,
    diversity: float | None = None,
    seed: int | None = None,
    filter: Filter | None = None,
    fields: Literal["metadata"] | None = None,
) -> Call[RecommendEachAnswer]:
    """As `recommend`, k of each type."""
    return Call("POST", "/recommend", json_of(RecommendEachAnswer), queried(target="each", **locals()))


def get_similar(
    id: str,
    *,
    k: int | None = None,
    user: str | None = None,
    target: Target | None = None,
    min_score: float | None = None,
    min_relevance: float | None = None,
    rank: Rank | None = None,
    offset: int | None = None,
    fold: bool | None = None,
    order: Order | None = None,
    filter: Filter | None = None,
    fields: Literal["metadata"] | None = None,
) -> Call[SimilarAnswer]:
    """What is most similar to a stored content; the model is not asked. Raises NotFound."""
    return Call("GET", "/contents/similar", json_of(SimilarAnswer), queried(**locals()))


def get_similar_each(
    id: str,
    *,
    k: int | None = None,
    user: str | None = None,
    min_score: float | None = None,
    min_relevance: float | None = None,
    rank: Rank | None = None,
    offset: int | None = None,
    fold: bool | None = None,
    order: Order | None = None,
    filter: Filter | None = None,
    fields: Literal["metadata"] | None = None,
) -> Call[SimilarEachAnswer]:
    """As `get_similar`, the k most similar of each type, in columns."""
    return Call("GET", "/contents/similar", json_of(SimilarEachAnswer), queried(target="each", **locals()))
