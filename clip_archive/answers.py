"""What the archive answers, typed. The names are those of the contract's schemas, and a test holds them to it.

Fields that an archive of a later version has besides are passed over.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ContentType = Literal["text", "image"]
Target = Literal["any", "text", "image"]
Metadata = dict[str, str | bool | int | float | list[str]]


class NearDuplicate(Struct, frozen=True):
    """A content of the same type with nearly the same vector; `score` is the cosine."""

    id: str
    score: float


class AddAnswer(Struct, frozen=True):
    """What became of an add. `duplicate_of` are ids with the same bytes; `time` in seconds.

    `truncated`: the text was cut to the model's 77 tokens. `overwritten` is false while bytes of what was replaced are
    still in a file of the archive.
    """

    id: str
    type: ContentType
    status: Literal["added", "unchanged", "replaced"]
    duplicate_of: list[str]
    truncated: bool
    msg: str
    time: float
    near_duplicates: list[NearDuplicate] = []
    overwritten: bool = True


class Duplicates(Struct, frozen=True):
    """How many copies were folded under a hit, and the best 100 of them."""

    count: int
    ids: tuple[str, ...]


class FoundContent(Struct, frozen=True):
    """A hit: `score` is the cosine; `relevance`, 0 to 1, how far it is above chance, None when unknown."""

    id: str
    type: ContentType
    user: str | None
    score: float
    relevance: float | None
    duplicates: Duplicates | None = None
    metadata: Metadata | None = None


class Columns(Struct, frozen=True):
    """Contents of one type, best first: ids, their cosines, and where it was asked for their metadata."""

    contents: list[str]
    scores: list[float]
    metadata: list[Metadata] | None = None


class RetrieveAnswer(Struct, frozen=True):
    """What is most similar, best first; `truncated`: the text of the question was cut."""

    contents: list[FoundContent]
    truncated: bool
    time: float


class RetrieveEachAnswer(Struct, frozen=True):
    """The k best of each type."""

    text: Columns
    image: Columns
    truncated: bool
    time: float


class SimilarAnswer(Struct, frozen=True):
    """What is most similar to a stored content, best first."""

    contents: list[FoundContent]
    time: float


class SimilarEachAnswer(Struct, frozen=True):
    """The k most similar of each type."""

    text: Columns
    image: Columns
    time: float


class Because(Struct, frozen=True):
    """The content of the user's that a recommendation follows from, and as what it was chosen."""

    id: str
    kind: str


class RecommendedContent(FoundContent, frozen=True, kw_only=True):
    """A content that is new to the user, and why."""

    because: Because


class RecommendedList(Struct, frozen=True):
    """Recommendations of one type, best first."""

    contents: list[RecommendedContent]


class RecommendAnswer(Struct, frozen=True):
    """Recommendations, best first; where there are none, `reason` is `no_history` or `nothing_new`."""

    contents: list[RecommendedContent]
    reason: str | None
    time: float


class RecommendEachAnswer(Struct, frozen=True):
    """Recommendations of each type."""

    text: RecommendedList
    image: RecommendedList
    reason: str | None
    time: float


class ContentAnswer(Struct, frozen=True):
    """What is stored of a content: `sha256` of its bytes in hex, `created` in Unix seconds.

    `original`: whether `get_original` gives the bytes; None in a page of contents, which does not say.
    """

    id: str
    type: ContentType
    user: str | None
    sha256: str
    created: float
    truncated: bool
    metadata: Metadata = {}
    original: bool | None = None


class PageAnswer(Struct, frozen=True):
    """A page of contents; `next` is the following page's `after`, None at the end."""

    contents: list[ContentAnswer]
    next: str | None


class EraseAnswer(Struct, frozen=True):
    """Whether the bytes of what was erased are in no file of the archive any more."""

    overwritten: bool


class EraseUserAnswer(Struct, frozen=True):
    """How many contents were erased."""

    deleted: int
    overwritten: bool = True


class IndexState(Struct, frozen=True):
    """How the contents of one type are searched; what does not apply is None."""

    kind: str
    size: int
    memory_bytes: int | None
    nprobe: int | None = None
    recall: dict[str, float] | None = None
    build: float | None = None
    snapshot: str = "none"


class IndexAnswer(Struct, frozen=True):
    """How each type is searched."""

    text: IndexState
    image: IndexState


class Counts(Struct, frozen=True):
    """How many contents of each type can be found."""

    text: int
    image: int


class StatusAnswer(Struct, frozen=True):
    """A word, and all that strangers are told."""

    status: str


class CallerAnswer(Struct, frozen=True):
    """The role of the caller's key, None without one that it takes, and the user it is bound to."""

    role: str | None
    user: str | None


class HealthAnswer(Struct, frozen=True):
    """How the archive is. `model` names weights and preprocessing; with `untrained` weights rankings mean nothing."""

    status: str
    version: str
    ready: bool
    storage: str
    embedder: str
    model: str | None
    weights: str | None
    contents: Counts | None
    erasures_due: int


class Error(Struct, frozen=True):
    """What went wrong: `code` for machines, `message` for people, `request_id` for who reads the archive's log."""

    code: str
    message: str
    request_id: str


class ErrorAnswer(Struct, frozen=True):
    """The shape of all errors."""

    error: Error
