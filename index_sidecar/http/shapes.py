"""What the JSON of each answer holds. Answers are made of these types, and the contract shows their schemas."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ..archive.content import ContentType, IndexState
from ..archive.grouping import Kind

Score = Annotated[float, Meta(description="cosine similarity, rounded to 1e-6")]
Relevance = Annotated[float | None, Meta(description="how far the score is above chance, 0 to 1; null when unknown")]
Truncated = Annotated[bool, Meta(description="whether the text was cut to the model's 77 tokens")]
Time = Annotated[float, Meta(description="seconds it took", ge=0)]
Metadata = Annotated[dict[str, str | bool | int | float | list[str]], Meta(description="what its owner says of it")]
Overwritten = Annotated[
    bool | UnsetType, Meta(description="false, and only there, while erased bytes are still in a file of ours")
]


class Error(Struct, frozen=True):
    """What went wrong."""

    code: Annotated[str, Meta(description="stable, for machines")]
    message: Annotated[str, Meta(description="for people")]
    request_id: Annotated[str, Meta(description="as in X-Request-ID")]


class ErrorAnswer(Struct, frozen=True):
    """The one shape all errors have."""

    error: Error


class NearDuplicate(Struct, frozen=True):
    """A content of the same type with nearly the same vector."""

    id: str
    score: Score


class AddAnswer(Struct, frozen=True):
    """What became of an add."""

    id: str
    type: ContentType
    status: Literal["added", "unchanged", "replaced"]
    duplicate_of: Annotated[list[str], Meta(description="ids with the same bytes, oldest first")]
    truncated: Truncated
    msg: Annotated[str, Meta(description="the status, for people")]
    time: Time
    near_duplicates: Annotated[
        list[NearDuplicate] | UnsetType, Meta(description="nearest first; where `near` was given")
    ] = UNSET
    overwritten: Overwritten = UNSET


class Duplicates(Struct, frozen=True):
    """Copies of a hit among the hits that were looked at, folded under it."""

    count: int
    ids: Annotated[tuple[str, ...], Meta(description="the 100 best of them, best first")]


class FoundContent(Struct, frozen=True):
    """A content of the archive, and how near it is to what was asked."""

    id: str
    type: ContentType
    user: str | None
    score: Score
    relevance: Relevance
    duplicates: Annotated[Duplicates | UnsetType, Meta(description="with `fold`, where there are any")] = UNSET
    metadata: Annotated[Metadata | UnsetType, Meta(description="with `fields=metadata`")] = UNSET


class Columns(Struct, frozen=True):
    """Contents of one type, best first, as lists of the same length."""

    contents: Annotated[list[str], Meta(description="ids")]
    scores: Annotated[list[float], Meta(description="cosine similarities")]
    metadata: Annotated[list[Metadata] | UnsetType, Meta(description="with `fields=metadata`")] = UNSET


class RetrieveAnswer(Struct, frozen=True):
    """The contents most similar to the query, best first."""

    contents: list[FoundContent]
    truncated: Truncated
    time: Time


class RetrieveEachAnswer(Struct, frozen=True):
    """The k best of each type."""

    text: Columns
    image: Columns
    truncated: Truncated
    time: Time


class SimilarAnswer(Struct, frozen=True):
    """The contents most similar to a stored one, best first."""

    contents: list[FoundContent]
    time: Time


class SimilarEachAnswer(Struct, frozen=True):
    """The k most similar of each type."""

    text: Columns
    image: Columns
    time: Time


class Because(Struct, frozen=True):
    """The content of the user's history that a recommendation follows from, and as what it was chosen."""

    id: str
    kind: Kind


class RecommendedContent(FoundContent, frozen=True, kw_only=True):
    """A content that is new to the user, and why."""

    because: Because


class RecommendedList(Struct, frozen=True):
    """Recommendations of one type, best first."""

    contents: list[RecommendedContent]


Reason = Annotated[
    Literal["no_history", "nothing_new"] | None, Meta(description="why there is no recommendation, if there is none")
]


class RecommendAnswer(Struct, frozen=True):
    """Recommendations, best first."""

    contents: list[RecommendedContent]
    reason: Reason
    time: Time


class RecommendEachAnswer(Struct, frozen=True):
    """Recommendations of each type."""

    text: RecommendedList
    image: RecommendedList
    reason: Reason
    time: Time


class ColumnsOfEach(Struct, frozen=True):
    """What follows from contents of one type."""

    text: Columns
    image: Columns


class RecommendByHistoryAnswer(Struct, frozen=True):
    """The historical shape: by the type of the history, then by the type recommended."""

    text: ColumnsOfEach
    image: ColumnsOfEach
    time: Time


class ContentAnswer(Struct, frozen=True):
    """What is stored of a content, without its vector."""

    id: str
    type: ContentType
    user: str | None
    sha256: Annotated[str, Meta(description="of the bytes, in hex")]
    created: Annotated[float, Meta(description="Unix seconds")]
    truncated: Truncated
    metadata: Metadata = {}
    original: Annotated[
        bool | UnsetType, Meta(description="whether the bytes are kept as they came; where one content is asked for")
    ] = UNSET


class PageAnswer(Struct, frozen=True):
    """A page of contents; `next` is the following page's `after`, null at the end."""

    contents: list[ContentAnswer]
    next: str | None


class EraseAnswer(Struct, frozen=True):
    """The content is in no answer any more, but its bytes are still in a file of ours."""

    overwritten: bool


class EraseUserAnswer(Struct, frozen=True):
    """How many contents were erased."""

    deleted: int
    overwritten: Overwritten = UNSET


class IndexAnswer(Struct, frozen=True):
    """How the contents of each type are searched at the moment."""

    text: IndexState
    image: IndexState


class Counts(Struct, frozen=True):
    """How many contents of each type can be found."""

    text: int
    image: int


Availability = Literal["available", "unavailable"]


class StatusAnswer(Struct, frozen=True):
    """A word for probes, and all that strangers are told."""

    status: Literal["ok", "ready", "alive"]


class CallerAnswer(Struct, frozen=True):
    """Who is asking, as a client needs it to offer what it may do."""

    role: Annotated[Literal["reader", "writer", "admin"] | None, Meta(description="null without a key that it takes")]
    user: Annotated[str | None, Meta(description="whom the key is bound to")]


class HealthAnswer(Struct, frozen=True):
    """How the things around the process are."""

    status: Literal["ok"]
    version: str
    ready: bool
    storage: Availability
    embedder: Availability
    model: Annotated[str | None, Meta(description="fingerprint of weights and preprocessing")]
    weights: Annotated[str | None, Meta(description="`untrained`: rankings carry no meaning")]
    contents: Annotated[Counts | None, Meta(description="null while the storage does not answer")]
    erasures_due: Annotated[int, Meta(description="contents in no answer any more, but still in a file")]
